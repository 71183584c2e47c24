"""How alike are the curves of voice and face, and how alike would they be by chance?"""
