"""Studies with people: blinded pairs of two methods' assets to vote on, and what the votes say."""
