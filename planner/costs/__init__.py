"""Symbolic costs: what a step computes, moves and stores, and how long a device takes for it.

Layers are sums of operators, operators are expressions over one table of symbols, a device turns work
into seconds, and `serving` turns seconds per step into what a user feels. SymPy is used here and nowhere
else; `compile` turns the expressions into a NumPy function that needs no SymPy.
"""
