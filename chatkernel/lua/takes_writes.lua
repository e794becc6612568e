#!lua
-- Without a key: a cluster asks each of its nodes. Refused, as all our scripts, where writes are.
return 1
