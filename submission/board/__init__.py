"""The leaderboard: who is ranked, on what, by which rule, how certain it is, and the page that shows it."""
