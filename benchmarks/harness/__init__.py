"""What benchmarks ask with and against: clients, servers, engines, reports."""
