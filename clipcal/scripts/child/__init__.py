"""What runs inside the processes of a script that is watched from outside. Standard library and torch alone: the script may run in
an environment that has nothing else of what clipcal needs."""
