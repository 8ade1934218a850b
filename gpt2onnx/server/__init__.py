"""An HTTP server of models, as OpenAI's clients speak to one.

The only part that knows a web framework. Needs the packages of the extra `server`.
"""
