"""Design-space exploration: the vocabulary of ``accel sweep``.

A spec (``spec``, ``axes``) spans points (``points``); what is known of a point is a row (``columns``), kept by content
(``store``), written as a table (``results``) and sorted into fronts (``pareto``, ``plot``).
"""
