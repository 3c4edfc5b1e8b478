"""Does a threshold that was moved to a larger batch lie where one that is read there does?"""
