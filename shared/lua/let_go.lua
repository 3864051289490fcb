-- ARGV: line, job, token. The errand is over.
if holder_of(ARGV[2], ARGV[1]) == ARGV[3] then redis.call('ZREM', line_key(ARGV[1]), ARGV[2]) end
