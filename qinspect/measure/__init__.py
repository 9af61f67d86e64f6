"""What quantization does to ranges, weights, activations, layers and outputs of files."""
