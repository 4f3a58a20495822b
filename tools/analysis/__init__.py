"""What `heal analyse` computes and draws: fusion weights, similarity of features, and their projection."""
