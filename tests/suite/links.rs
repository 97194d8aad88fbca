//! Links between kernels: chains, diamonds, cycles, fan-out and fan-in.
