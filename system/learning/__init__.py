"""What a training is made of: its loop, batches, objectives, schedules, optimizers, averages of weights."""
