"""What is done to Redis in one step: Lua scripts, each touching the keys of one slot.

A session's keys share the hash tag ``{session_id}``, those of the index the tag ``{index}``; so a session and
its place in the index are written one after the other, and the index carries the version of what it knows.
Time is the server's.
"""

import hashlib
from dataclasses import dataclass

__all__ = [
    "ACQUIRE",
    "APPEND",
    "DELETE",
    "INDEX_DROP",
    "INDEX_PUT",
    "INDEX_SWEEP",
    "PURGE",
    "RECLAIM",
    "RELEASE",
    "REMEMBER",
    "RENEW",
    "SAVE",
    "VIEW",
    "Script",
]

_LEASES = """
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function known(key)
  local kept = redis.call('HMGET', key, 'holder', 'fence', 'until_ms')
  return kept[2] and {holder = kept[1], fence = tonumber(kept[2]), until_ms = tonumber(kept[3])}
end
local function keep(key, holder, fence, until_ms, kept_ms)
  redis.call('HSET', key, 'holder', holder, 'fence', fence, 'until_ms', until_ms)
  redis.call('PEXPIRE', key, kept_ms)
end
local function is_held(key)
  local fence = known(key)
  return fence and fence.holder ~= '' and fence.until_ms > now_ms()
end
local function may_write(key, holder, number, kept_ms)
  local fence = known(key)
  if not fence or number > fence.fence then
    keep(key, holder, number, now_ms(), kept_ms)
    return true
  end
  return number == fence.fence and holder == fence.holder
end
local function new_version(key)
  return math.max((tonumber(redis.call('HGET', key, 'version')) or 0) + 1, now_ms())
end
"""

_INDEX = """
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function drop(prefix, id)
  local entry = redis.call('HGET', prefix .. 'entries', id)
  if entry then
    for place in string.gmatch(string.match(entry, ' (.*)'), '%S+') do
      redis.call('ZREM', prefix .. place, id)
    end
    redis.call('HDEL', prefix .. 'entries', id)
  end
  redis.call('ZREM', prefix .. 'expiry', id)
end
local function version_of(prefix, id)
  local entry = redis.call('HGET', prefix .. 'entries', id)
  return entry and tonumber(string.match(entry, '^%d+'))
end
local function sweep(prefix, most)
  local old = redis.call('ZRANGEBYSCORE', prefix .. 'expiry', '-inf', now_ms(), 'LIMIT', 0, most)
  for _, id in ipairs(old) do drop(prefix, id) end
  return #old
end
"""


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the digest that the server knows it by."""

    text: str

    @property
    def sha(self) -> str:
        """Of `text`."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


ACQUIRE = Script(
    _LEASES
    + """
local holder, ttl_ms, kept_ms = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local fence = known(KEYS[1])
if fence and fence.holder ~= '' and fence.holder ~= holder and fence.until_ms > now_ms() then return 0 end
local number = fence and fence.fence + 1 or 1
keep(KEYS[1], holder, number, now_ms() + ttl_ms, kept_ms)
return number
"""
)
"""lease; holder, ttl, kept -> the fence, or 0."""

RENEW = Script(
    _LEASES
    + """
if not may_write(KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]) then return 0 end
keep(KEYS[1], ARGV[1], ARGV[2], now_ms() + tonumber(ARGV[4]), ARGV[3])
return 1
"""
)
"""lease; holder, fence, kept, ttl -> may it?"""

RELEASE = Script(
    _LEASES
    + """
local fence = known(KEYS[1])
local number = tonumber(ARGV[2])
if fence and (number > fence.fence or (number == fence.fence and fence.holder == ARGV[1])) then
  keep(KEYS[1], '', number, now_ms(), ARGV[3])
end
return 1
"""
)
"""lease; holder, fence, kept."""

SAVE = Script(
    _LEASES
    + """
if not may_write(KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]) then return 0 end
local version = new_version(KEYS[2])
redis.call('HSET', KEYS[2], 'body', ARGV[5], 'status', ARGV[6], 'version', version)
if ARGV[7] then redis.call('HSET', KEYS[2], 'snapshot', ARGV[7]) end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
return version
"""
)
"""lease, record, lines; holder, fence, fence kept, kept, body, status[, snapshot] -> the version, or 0."""

APPEND = Script(
    _LEASES
    + """
if not may_write(KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]) then return 0 end
for at = 5, #ARGV, 2 do
  if redis.call('ZCOUNT', KEYS[2], ARGV[at], ARGV[at]) == 0 then
    redis.call('ZADD', KEYS[2], ARGV[at], ARGV[at + 1])
  end
end
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1
"""
)
"""lease, lines; holder, fence, fence kept, kept, (number, line)… -> may it?"""

VIEW = Script(
    _LEASES
    + """
local kept = redis.call('HMGET', KEYS[2], 'body', 'status', 'version')
return {kept[1], kept[2], tonumber(kept[3]) or 0, is_held(KEYS[1]) and 1 or 0}
"""
)
"""lease, record -> body, status, version, is it held?"""

RECLAIM = Script(
    _LEASES
    + """
if redis.call('HGET', KEYS[2], 'status') ~= 'live' or is_held(KEYS[1]) then return 0 end
local version = new_version(KEYS[2])
redis.call('HSET', KEYS[2], 'status', 'interrupted', 'version', version)
return version
"""
)
"""lease, record -> the new version, or 0."""

DELETE = Script(
    _LEASES
    + """
local fence = known(KEYS[1])
if fence then keep(KEYS[1], '', fence.fence + 1, now_ms(), ARGV[1]) end
return redis.call('DEL', KEYS[2], KEYS[3])
"""
)
"""lease, record, lines; kept -> keys deleted."""

PURGE = Script(
    _LEASES
    + """
if is_held(KEYS[1]) or redis.call('HGET', KEYS[2], 'version') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2], KEYS[3])
return 1
"""
)
"""lease, record, lines; the version that is too old -> was it deleted?"""

REMEMBER = Script(
    """
local before = redis.call('HGET', KEYS[1], 'at')
if before and tonumber(before) > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'at', ARGV[1], 'body', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""
)
"""memory; at, body, ttl -> was it newer?"""

INDEX_PUT = Script(
    _INDEX
    + """
local prefix, id, version, kept_ms = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
sweep(prefix, 20)
if (version_of(prefix, id) or 0) > version then return 0 end
drop(prefix, id)
local entry = {ARGV[3]}
for at = 5, #ARGV, 2 do
  redis.call('ZADD', prefix .. ARGV[at], ARGV[at + 1], id)
  redis.call('PEXPIRE', prefix .. ARGV[at], kept_ms)
  entry[#entry + 1] = ARGV[at]
end
redis.call('HSET', KEYS[1], id, table.concat(entry, ' '))
redis.call('PEXPIRE', KEYS[1], kept_ms)
redis.call('ZADD', prefix .. 'expiry', now_ms() + kept_ms, id)
redis.call('PEXPIRE', prefix .. 'expiry', kept_ms)
return 1
"""
)
"""entries; prefix, id, version, kept, (place, score)… -> was it the newest?"""

INDEX_DROP = Script(
    _INDEX
    + """
if ARGV[3] ~= '' and version_of(ARGV[1], ARGV[2]) ~= tonumber(ARGV[3]) then return 0 end
drop(ARGV[1], ARGV[2])
return 1
"""
)
"""entries; prefix, id, the version that was seen or nothing -> was it dropped?"""

INDEX_SWEEP = Script(_INDEX + "return sweep(ARGV[1], tonumber(ARGV[2]))")
"""entries; prefix, most -> entries whose sessions have run out, dropped."""
