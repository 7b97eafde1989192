"""Checks of this machine and this installation, each problem with its fix.

Each area has functions that yield findings. `gptcli.doctor.examination` runs them all; a check that
fails is a finding itself. Nothing here needs torch, the network or a valid configuration.
"""
