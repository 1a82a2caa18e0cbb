"""A cluster from outside: what is sent to it, the jobs that run there, and whether it is fit to run studies."""
