-- ARGV: job, chunk, ttl, indexed, unchanged, failed, packed failure rows, then code, count, code, count …
-- The first commit of a chunk moves the counters and keeps its failures; a second finds no chunk and is a no-op.
local job, n, now = ARGV[1], ARGV[2], now_ms()
if redis.call('HEXISTS', key(job, 'chunks'), n) == 0 then return 0 end
redis.call('HINCRBY', key(job), 'indexed', ARGV[4])
redis.call('HINCRBY', key(job), 'unchanged', ARGV[5])
redis.call('HINCRBY', key(job), 'failed', ARGV[6])
for i = 8, #ARGV, 2 do redis.call('HINCRBY', key(job), 'code:' .. ARGV[i], ARGV[i + 1]) end
if ARGV[7] ~= '' then redis.call('RPUSH', key(job, 'failures'), 'F' .. ARGV[7]) end
forget_chunk(job, n)
finish_if_ended(job, now, ARGV[3])
return 1
