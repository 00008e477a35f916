"""The strict simulated vendor and the traffic to send at it: the judge of everything else."""
