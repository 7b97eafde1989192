"""What all engines share: requests, sequences, the sampler, detokenizing, speculative decoding."""
