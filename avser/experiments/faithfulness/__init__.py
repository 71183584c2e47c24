"""Does the answer rest on the moments that a salience names?"""
