"""Which model and which salience finds known moments?"""
