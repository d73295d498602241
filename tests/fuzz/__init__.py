"""Structure-aware fuzzing: mutated streams whose checks hold, and what readers make of them.

``python -m tests.fuzz --seconds 3600 --jobs 2 --seed N`` runs a campaign, ``--replay FILE`` repeats
a case that failed. Case n of a seed is the same on every machine.

    structure.py   a stream taken apart, and put together again with checks that hold
    seeds.py       the streams that are mutated: tiny, and of every kind of block
    mutations.py   what is done to them
    readers.py     every way of reading a stream, and what must be true of what comes out
    cases.py       one case: a target, an input, a verdict
    campaign.py    many cases in processes of bounded memory and time
"""
