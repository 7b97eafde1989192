"""What this machine and this installation can do, what is wrong with them, and what mends it.

Each area is looked at by functions that yield findings; `gptcli.doctor.examination` runs them all,
and one that fails is a finding itself. It is made for the broken case: nothing here needs torch,
the network or a sound configuration to be there.
"""
