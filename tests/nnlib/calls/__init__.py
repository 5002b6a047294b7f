"""A right call of every public function and class of ``nnlib``, one file a room; ``test_bad_input`` spoils them.

``CALLS`` has, by name, a function that makes the keyword arguments anew; ``ELSEWHERE`` says of what trains for long, or
takes no argument that could be wrong, which test has its table of bad input.
"""
