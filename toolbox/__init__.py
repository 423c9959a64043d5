"""What stands around the lessons: services, catalogue and the commands of tutorial.py."""
