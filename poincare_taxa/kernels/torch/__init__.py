"""Plain torch: kernels on any device, without a compiler."""
