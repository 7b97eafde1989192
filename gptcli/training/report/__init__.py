"""What a run leaves beside the weights: log, loss curve, model card, what was memorised."""
