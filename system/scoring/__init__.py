"""From logits to scores: predictions and their files, scenes and sound events, how sure each score is."""
