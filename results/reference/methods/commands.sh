#!/bin/sh
# The table of all methods from nothing. From the root of the repository, after `make install`:
#
#   PATH=$PWD/.venv/bin:$PATH sh results/reference/methods/commands.sh results/methods
#
# About 27 hours of one core; the same command again continues where it was stopped.
set -eu
here=$(dirname "$0")
out=$1
unsteered=sds,sjc,vsd,esd,csd,nfsd,ism,sdi
steered=psd,dreamdpo,rewardsds,rewardvsd,dreamreward,reward_gradient

# As many trials for each method: two of guidance, which chose 7.5 for all that have it, see README.md; then four of the rest.
spaces="" values=""
for method in sds sjc vsd esd nfsd ism sdi psd dreamdpo rewardsds rewardvsd dreamreward reward_gradient; do
  spaces="$spaces --space $method.guidance_scale=2..30:log"
  values="$values --set $method.guidance_scale=7.5"
done
set -- --methods "$unsteered,$steered" --prompts "$here/tuning-prompts.txt" --seeds 1
psdbench tune "$@" --trials 2 $spaces --out "$out/guidance"
psdbench tune "$@" --trials 4 $values --out "$out/tuning"

for algorithm in draft dpo ddpo; do
  psdbench finetune --algorithm $algorithm --reward hps --out "$out/lora/$algorithm"
done

# Equal steps, then equal denoiser forwards; both with SDS in the weighting that most tuned methods have, as a control.
set -- --config "$out/tuning/best.toml" --reward hps
table="--prompts prompts/shapes.txt --seeds 3"
psdbench run --methods "$unsteered,$steered" "$@" $table --out "$out/steps"
for algorithm in draft dpo ddpo; do
  psdbench run --methods sds --prior "shapes+lora:$out/lora/$algorithm" "$@" $table --out "$out/steps"
done
psdbench run --methods sds --set sds.weighting=sds "$@" $table --out "$out/steps"
psdbench run --methods sds,psd,dreamdpo,rewardsds,rewardvsd --budget nfe=1200 "$@" $table --out "$out/forwards"
psdbench run --methods sds --set sds.weighting=sds --budget nfe=1200 "$@" $table --out "$out/forwards"

# How hard to steer: PSD and the naive gradient beyond what the tuning chose, in one weighting, on every third prompt.
sweep="--prompts $here/every-third.txt --seeds 1 --out $out/strength"
psdbench run --methods sds,reward_gradient --set sds.weighting=sds "$@" $sweep
for weight in 1 3 10; do
  psdbench run --methods reward_gradient --set reward_gradient.reward_weight=$weight "$@" $sweep
done
for scale in 2 8 32; do
  psdbench run --methods psd --set psd.weighting=sds --set psd.preference_scale=$scale "$@" $sweep
done

for part in steps forwards; do
  psdbench report "$out/$part" --baseline "sds(weighting=x0)"
done
psdbench report "$out/strength"
