"""What those who run the monitor look at: metrics for Prometheus, health for an orchestrator, a log for machines."""
