"""The DRAM: standards as command spacings, banks, queues, schedulers; see ``rowhit`` for the rules."""
