"""What a training is made of besides its loop: batches, objectives, schedules, optimizers, averages of weights."""
