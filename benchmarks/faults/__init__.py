"""Faults done to real runs, which must lose nothing: killed processes, full disks and others."""
