"""Do voice and face carry emotion at the same moments?"""
