"""How many machines a load needs: the engine's own loop and scheduler on a clock of their own.

`costs` is what a turn costs, `meter` measures that, `machine` is a machine that is simulated, and
`__main__` the commands.
"""
