"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const other = { a: "b", b: "a" };
  let rater = "", plan = [], votes = [], shownAt = 0, view = 0;

  // A small generator of our own (mulberry32), so that a rater who reloads sees the same order and sides.
  function randomOf(text) {
    let state = 0;
    for (const letter of text) state = (Math.imul(state, 31) + letter.codePointAt(0)) >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  // Items carry sides that are balanced over methods; half of the raters see all of them mirrored.
  function planFor(name) {
    const random = randomOf(`${data.study} ${name}`);
    const first = random() < 0.5 ? "a" : "b";
    const order = data.items.map((item) => ({ item, left: first }));
    for (let i = order.length - 1; i > 0; i--) {
      const j = Math.floor(random() * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }

  const memory = () => `psdbench-study ${data.study} ${rater}`;
  function remember() {
    try { localStorage.setItem(memory(), JSON.stringify(votes)); } catch { /* a browser may refuse: votes live on in the page */ }
  }
  function recall() {
    try { return JSON.parse(localStorage.getItem(memory())) ?? []; } catch { return []; }
  }

  function show() {
    if (votes.length === plan.length) {
      byId("vote").hidden = true;
      byId("end").hidden = false;
      byId("save").focus();
      return;
    }
    const { item, left } = plan[votes.length];
    byId("progress").textContent = `${votes.length + 1} of ${plan.length}`;
    byId("prompt").textContent = item.prompt;
    byId("left").src = item[left];
    byId("right").src = item[other[left]];
    view = 0;
    turn();
    byId("prompt").focus();
    shownAt = performance.now();
  }

  function turn() {
    const now = plan[votes.length];
    if (!now) return;
    for (const id of ["left", "right"]) byId(id).style.transform = `translateX(${(-100 * view) / now.item.views}%)`;
    view = (view + 1) % Math.min(data.around, now.item.views);
  }

  function answer(side) {
    const { item, left } = plan[votes.length];
    const choice = side === "tie" ? "tie" : side === "left" ? left : other[left];
    votes.push({ item: item.id, choice, left, milliseconds: Math.round(performance.now() - shownAt) });
    remember();
    show();
  }

  byId("start").addEventListener("submit", (event) => {
    event.preventDefault();
    rater = byId("rater").value.trim();
    if (!rater) return;
    plan = planFor(rater);
    votes = recall();
    byId("start").hidden = true;
    byId("vote").hidden = false;
    show();
    setInterval(turn, 350);
  });
  for (const button of document.querySelectorAll("[data-answer]")) {
    button.addEventListener("click", () => answer(button.dataset.answer));
  }
  document.addEventListener("keydown", (event) => {
    if (byId("vote").hidden) return;
    const side = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie" }[event.key];
    if (side) answer(side);
    else if (event.key === "Backspace" && votes.length) { votes.pop(); remember(); show(); }
    else return;
    event.preventDefault();
  });
  byId("save").addEventListener("click", () => {
    const content = JSON.stringify({ schema_version: 1, study: data.study, rater, votes }, null, 1);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type: "application/json" }));
    link.download = `votes-${rater.replace(/[^\w-]+/g, "-")}.json`;
    link.click();
    URL.revokeObjectURL(link.href);
  });
})();
