"""A right call of every public function and class of ``nnlib``, one file a room; ``test_bad_input`` spoils them.

``CALLS`` has, by name, a function that makes the keyword arguments anew; a method stands there as ``Class.method``, and
``self`` is its object. ``ELSEWHERE`` says of what trains for long, or takes no argument that could be wrong, which test
has its table of bad input. ``ORACLES`` has, where there is one, a slow obvious way to the same answer: with the same
arguments, also the spoilt ones that are not refused.
"""
