-- ARGV: job, token, how many images are absent from the feed, their share. The first comparison stands: a worker that
-- goes on with the removal after another finds fewer. Returns 1, or 0 where another worker has the errand.
local job = ARGV[1]
if holder_of(job, 'syncs') ~= ARGV[2] then return 0 end
redis.call('HSETNX', key(job), 'absent', ARGV[3])
redis.call('HSETNX', key(job), 'absent_share', ARGV[4])
return 1
