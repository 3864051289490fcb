-- ARGV: job, token, source. From now on the import reads this source.
if holder_of(ARGV[1], 'imports') ~= ARGV[2] then return 0 end
redis.call('HSET', key(ARGV[1]), 'source', ARGV[3])
return 1
