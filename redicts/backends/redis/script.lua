-- Executes one minitransaction on the layout that layout.py describes. The meaning of every step is that of
-- redicts/core/minitransaction.py. Nothing here knows what values are used for.
--
-- ARGV: expiry index, session ('' if nothing is written), number of the request in the session, most fields that one
--       call may touch, counts of checks, reads and writes, and then their arguments one after the other (see wire.py).
--       Checks are '^' of several keys   '=' of one key   'f' of one field.
--       Reads are 'r' values   'n' names   'f' one field.
--       Writes are
--       'p' put into a dict   'x' remove names of a dict   'l' set the TTL of names of a dict   'a' add
--       'd' delete   'e' expire, both below a key or at and below it   's' a delete below a key and a put there, alone
--       'w' notify the listeners that the values of any scope name, and delete these values
-- Reply: { status, failed index, answer, ..., counter, ... }, or { status } alone for 'L', 'A' and 'S'.
--   '+' applied   '!' a check failed   '#' not a counter   'L' too large
--   'A' expired fields were in the way, and some of them are removed: send the call again
--   'S' a later request of the same session was applied before
--   'R' this request was applied before: its reply follows, packed
--
-- Each call creates the functions that it passes, which costs more than most commands do. So functions that only some
-- calls need are created inside the function that needs them.

local call, byte, sub, find, match = redis.call, string.byte, string.sub, string.find, string.match
local ARGV = ARGV
local expiries, session = ARGV[1], ARGV[2]

-- As text: a number that is passed to a command is formatted first, which takes longer than a small command.
local SESSION_TTL = '300000'

if session ~= '' then
  local last = call('GET', session)
  if last then
    local done, number = tonumber(sub(last, 1, 16)), tonumber(ARGV[3])
    if done == number then return { 'R', sub(last, 17) } end
    if done > number then return { 'S' } end
  end
end

-- The most frequent requests are answered before any function is created: the read of one leaf or of a dict of plain
-- leaves, and the store of one leaf over another one or under a new name of a dict. None of them involves a TTL.
if ARGV[5] == '0' and ARGV[6] == '1' and ARGV[7] == '0' and ARGV[8] == 'r' and ARGV[10] ~= '>' and ARGV[13] == '0' then
  local parent, name = match(ARGV[9], '^(.*)%.([^.:%%]*)$')
  local field = parent and call('HGET', parent, name)
  if field then
    local first = byte(field)
    if not first or first > 3 or first == 0 then return { '+', 0, { '', '=', field, '' } } end
    local limit = math.min(tonumber(ARGV[4]), tonumber(ARGV[11]) or tonumber(ARGV[4]))
    if first == 1 and ARGV[10] == '*' and call('HLEN', ARGV[9]) <= limit then
      local fields, plain = call('HGETALL', ARGV[9]), true
      for i = 2, #fields, 2 do
        first = byte(fields[i])
        if first and first <= 3 and first >= 1 then plain = false break end
      end
      if plain and #fields > 0 then return { '+', 0, { '', '', fields, '' } } end
    end
  end
elseif ARGV[5] == '0' and ARGV[6] == '1' and ARGV[7] == '0' and ARGV[8] == 'f' then
  local field = call('HGET', ARGV[9], ARGV[10])
  local first = field and byte(field)
  if field and (not first or first > 3 or first == 0) then return { '+', 0, { '', '=', field, '' } } end
elseif ARGV[8] == 's' and ARGV[10] == '' then
  local parent, name = match(ARGV[9], '^(.*)%.([^.:%%]*)$')
  local first = byte(ARGV[11])
  if parent and (not first or first > 3 or first == 0) and call('ZCARD', expiries) == 0 then
    local old = call('HGET', parent, name)
    first = old and byte(old)
    if old and (not first or first > 3 or first == 0) or not old and call('HLEN', parent) > 0 then
      call('HSET', parent, name, ARGV[11])
      call('SET', session, ARGV[3] .. 'l2:s1:+s1:0', 'PX', SESSION_TTL)
      return { '+', 0 }
    end
  end
end

local DIRECTORY = '\1'

-- The millisecond since the epoch, as a number and as text.
local clock, clock_text
local function now()
  if not clock then
    local time = call('TIME')
    clock_text = time[1] .. sub('00000' .. time[2], -6, -4)
    clock = tonumber(clock_text)
  end
  return clock, clock_text
end

-- Names and fields -----------------------------------------------------------------------------------------------

local function escaped(name)
  if not find(name, '[%%%.:{}%z]') then return name end
  return (string.gsub(name, '[%%%.:{}%z]', function(c) return string.format('%%%02X', byte(c)) end))
end

local function split(dir)
  local parent, name = match(dir, '^(.*)%.([^.:]*)$')
  if not parent then return nil end
  if find(name, '%%') then name = string.gsub(name, '%%(%x%x)', function(h) return string.char(tonumber(h, 16)) end) end
  return parent, name
end

-- The value in a field, or nil for a directory and for a value that has expired.
local function live(field)
  local first = byte(field)
  if not first or first > 3 or first == 0 then return field end
  if first == 3 then return sub(field, 2) end
  if first == 2 and tonumber(sub(field, 2, 17)) > now() then return sub(field, 18) end
  return nil
end

-- The fast path --------------------------------------------------------------------------------------------------

-- Carries out a small request that meets nothing unusual, as those of locks and guarded writes mostly do. It spares the
-- functions of the general path, whose creation is most of what that costs, and reads nothing twice.
--
-- It collects its changes while it reads, so it can return nil at any point before the first change. The general path
-- then starts from the beginning. Each write is in another space, so none touches what another one has read.
local function fast_path()
  local at, reply, record, changes, spaces, checked = 7, { '+', 0 }, '', {}, {}, 0

  local function is_plain(field)
    local first = byte(field)
    return not first or first > 3 or first == 0
  end

  -- Calls visit(directory, name, value, field) for each live value below a directory. Returns nil if there are many.
  local function each_value(dir, visit)
    local MUCH, seen, pending = 64, 0, { dir }
    while #pending > 0 do
      local at = table.remove(pending)
      local count = call('HLEN', at)
      seen = seen + count
      if seen > MUCH then return nil end
      local fields = count > 0 and call('HGETALL', at) or pending
      for i = 1, count * 2, 2 do
        local name, field = fields[i], fields[i + 1]
        if field == DIRECTORY then
          pending[#pending + 1] = at .. '.' .. escaped(name)
        else
          local value = live(field)
          if value then visit(at, name, value, field) end
        end
      end
    end
    return true
  end

  -- Collects the removal of the marker of a directory that becomes empty, and of those above that then do.
  local function prune(dir)
    repeat
      local parent, last = split(dir)
      if not parent or redis.pcall('HGET', parent, last) ~= DIRECTORY then return end
      changes[#changes + 1] = { 'HDEL', parent, last }
      dir = parent
    until call('HLEN', dir) > 1
  end

  for _ = 1, tonumber(ARGV[5]) do
    local kind = ARGV[at + 1]
    if kind == '^' then
      if ARGV[at + 2] ~= '>' then return nil end
      local count, prefix = tonumber(ARGV[at + 3]), ARGV[at + 4]
      local starts, look = true, nil
      for i = at + 5, at + 4 + count do
        checked = checked + 1
        -- Mostly nothing is there, and then no function is created.
        if starts and call('HLEN', ARGV[i]) > 0 then
          look = look or function(_, _, value)
            if sub(value, 1, #prefix) ~= prefix then starts = false end
          end
          if not each_value(ARGV[i], look) then return nil end
        end
        if not starts and reply[1] == '+' then reply[1], reply[2] = '!', checked end
      end
      at = at + 4 + count
    elseif kind == '=' then
      local scope, dir = ARGV[at + 2], ARGV[at + 4]
      if ARGV[at + 3] ~= '0' or scope ~= '>' and scope ~= '=' then return nil end
      if scope == '>' then
        if call('HLEN', dir) > 0 then return nil end
      else
        local parent, name = split(dir)
        if not parent or call('HGET', parent, name) then return nil end
      end
      checked = checked + 1
      at = at + 4
    else
      local field = kind == 'f' and call('HGET', ARGV[at + 2], ARGV[at + 3])
      if not field or live(field) ~= ARGV[at + 4] then return nil end
      checked = checked + 1
      at = at + 4
    end
  end

  for _ = 1, tonumber(ARGV[6]) do
    local kind, dir = ARGV[at + 1], ARGV[at + 2]
    if kind == 'f' then
      local field = call('HGET', dir, ARGV[at + 3])
      local value = field and live(field)
      if field and not value then return nil end
      local ttl = ''
      if value and ARGV[at + 4] ~= '' and byte(field) == 2 then
        ttl = string.format('%.0f', tonumber(sub(field, 2, 17)) - now())
      end
      reply[#reply + 1] = value and { '', '=', value, ttl } or { '' }
      record = record .. (value and 'l4:s0:s1:=s' .. #value .. ':' .. value .. 's' .. #ttl .. ':' .. ttl or 'l1:s0:')
      at = at + 4
    elseif kind == 'r' and ARGV[at + 3] ~= '=' and ARGV[at + 6] == '0' then
      if tonumber(ARGV[at + 4] ~= '' and ARGV[at + 4] or 1000) < 64 then return nil end
      if ARGV[at + 3] == '*' then
        local parent, name = split(dir)
        local field = parent and call('HGET', parent, name)
        if field and field ~= DIRECTORY then return nil end
      end
      local with_ttls, answer, text = ARGV[at + 5] ~= '', { '' }, ''
      local whole = each_value(dir, function(where, name, value, field)
        local suffix, ttls, left = sub(where, #dir + 1), '', 's0:'
        if with_ttls and byte(field) == 2 then
          local ttl = string.format('%.0f', tonumber(sub(field, 2, 17)) - now())
          ttls, left = { name, ttl }, 'l2:s' .. #name .. ':' .. name .. 's' .. #ttl .. ':' .. ttl
        end
        answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = suffix, { name, value }, ttls
        text = text .. 's' .. #suffix .. ':' .. suffix
        text = text .. 'l2:s' .. #name .. ':' .. name .. 's' .. #value .. ':' .. value .. left
      end)
      if not whole then return nil end
      reply[#reply + 1] = answer
      record = record .. 'l' .. #answer .. ':s0:' .. text
      at = at + 6
    else
      return nil
    end
  end

  for _ = 1, reply[1] == '+' and tonumber(ARGV[7]) or 0 do
    local kind, dir = ARGV[at + 1], ARGV[at + 2]
    local space = match(dir, '^.*:')
    if spaces[space] then return nil end
    spaces[space] = true
    if kind == 's' then
      local ttl, value = ARGV[at + 3], ARGV[at + 4]
      local parent, name = split(dir)
      if not parent or ttl ~= '' or not is_plain(value) then return nil end
      local old = call('HGET', parent, name)
      if old and not is_plain(old) or not old and call('HLEN', parent) == 0 then return nil end
      changes[#changes + 1] = { 'HSET', parent, name, value }
      at = at + 4
    elseif kind == 'p' and ARGV[at + 3] == 'keep' then
      local count = tonumber(ARGV[at + 4])
      for i = at + 5, at + 3 + count * 2, 2 do
        local name, value = ARGV[i], ARGV[i + 1]
        local old = call('HGET', dir, name)
        if not old or old == DIRECTORY or not live(old) then return nil end
        if byte(old) == 2 then
          value = sub(old, 1, 17) .. value
        elseif not is_plain(value) then
          return nil
        end
        changes[#changes + 1] = { 'HSET', dir, name, value }
      end
      at = at + 4 + count * 2
    elseif kind == 'p' then
      local ttl, count, name, value = tonumber(ARGV[at + 3]), ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
      if not ttl or count ~= '1' then return nil end
      local above, last = dir, nil
      while call('HLEN', above) == 0 do
        local parent, below = split(above)
        if not parent then break end
        changes[#changes + 1] = { 'HSET', parent, below, DIRECTORY }
        above, last = parent, below
      end
      local old = call('HGET', above, last or name)
      if old and (last or not is_plain(old) and byte(old) ~= 2) then return nil end
      local deadline = string.format('%016.0f', now() + ttl)
      changes[#changes + 1] = { 'ZADD', expiries, deadline, dir .. '\0' .. name }
      changes[#changes + 1] = { 'HSET', dir, name, '\2' .. deadline .. value }
      at = at + 6
    elseif kind == 'a' then
      local parent, name = split(dir)
      local old, amount = parent and call('HGET', parent, name), ARGV[at + 3]
      -- Up to 15 digits a double is exact.
      if not old or #old > 15 or #amount > 15 or not (old == '0' or find(old, '^%-?[1-9]%d*$')) then return nil end
      local sum = string.format('%.0f', tonumber(old) + tonumber(amount))
      changes[#changes + 1] = { 'HSET', parent, name, sum }
      reply[#reply + 1] = sum
      record = record .. 's' .. #sum .. ':' .. sum
      at = at + 3
    elseif kind == 'x' then
      local count, name = ARGV[at + 3], ARGV[at + 4]
      if count ~= '1' then return nil end
      local old = call('HGET', dir, name)
      if old and old ~= DIRECTORY then
        changes[#changes + 1] = { 'HDEL', dir, name }
        if byte(old) == 2 then changes[#changes + 1] = { 'ZREM', expiries, dir .. '\0' .. name } end
        if call('HLEN', dir) == 1 then prune(dir) end
      end
      at = at + 4
    elseif kind == 'w' then
      local count = call('HLEN', dir)
      if ARGV[at + 3] ~= '>' or count > 8 then return nil end
      if count > 0 then
        local listed, channels = call('HGETALL', dir), ARGV[at + 4]
        -- To the channel of no client: a missing permission to publish must be met before the first change.
        call('PUBLISH', channels, '')
        for i = 1, #listed, 2 do
          local field = listed[i + 1]
          if field == DIRECTORY then return nil end
          local client_id, number = match(live(field) or '', '^([!-.0-~]+)/([!-~]+)$')
          if client_id and #client_id + #number < 100 then
            changes[#changes + 1] = { 'PUBLISH', channels .. client_id, number }
          end
          if byte(field) == 2 then changes[#changes + 1] = { 'ZREM', expiries, dir .. '\0' .. listed[i] } end
        end
        changes[#changes + 1] = { 'UNLINK', dir }
        prune(dir)
      end
      at = at + 4
    else
      return nil
    end
  end

  -- Expired fields are to be swept, which the general path does. A foreign key instead of the index is met here.
  -- Where nothing has read the clock yet, an empty index spares that.
  if clock or call('ZCARD', expiries) > 0 then
    local _, until_now = now()
    if #call('ZRANGEBYSCORE', expiries, '-inf', until_now, 'LIMIT', '0', '1') > 0 then return nil end
  end
  for _, change in ipairs(changes) do call(unpack(change)) end
  record = 'l' .. #reply .. ':s1:' .. reply[1] .. 's' .. #tostring(reply[2]) .. ':' .. reply[2] .. record
  call('SET', session, ARGV[3] .. record, 'PX', SESSION_TTL)
  return reply
end

if session ~= '' then
  local reply = fast_path()
  if reply then return reply end
end

-- The general path -----------------------------------------------------------------------------------------------

local most = tonumber(ARGV[4])
local TOO_MANY = {}

local function deadline_of(field)
  return byte(field) == 2 and tonumber(sub(field, 2, 17)) or nil
end

-- Whether { name, field, ... }, or with step 1 { field, ... }, has neither directories nor TTLs nor escapes.
local function is_plain(items, step)
  step = step or 2
  for i = step, #items, step do
    local first = byte(items[i])
    if first and first <= 3 and first >= 1 then return false end
  end
  return true
end

-- The live value under a name of a directory, and the field that it is kept in.
local function value_at(parent, name)
  local field = call('HGET', parent, name)
  return field and live(field) or nil, field
end

-- The same of exactly this key.
local function leaf(dir)
  local parent, name = split(dir)
  if not parent then return nil end
  return value_at(parent, name)
end

-- Walking and reading --------------------------------------------------------------------------------------------

local touched = 0
local function touch(count)
  touched = touched + count
  if touched > most then error(TOO_MANY) end
end

-- Calls visit(directory, fields, plain) for every hash at and below a directory, until that returns true. Counts the
-- fields as touched.
local function each_hash(dir, visit)
  local pending = { dir }
  while #pending > 0 do
    local at = table.remove(pending)
    local count = call('HLEN', at)
    if count > 0 then
      touch(count)
      local fields = call('HGETALL', at)
      local plain = is_plain(fields)
      if visit(at, fields, plain) then return true end
      if not plain then
        for i = 2, #fields, 2 do
          if fields[i] == DIRECTORY then pending[#pending + 1] = at .. '.' .. escaped(fields[i - 1]) end
        end
      end
    end
  end
  return false
end

-- Adds the live values of a hash to an answer: suffix, { name, value, ... }, { name, remaining TTL, ... }.
local function emit(answer, suffix, fields, plain, with_ttls)
  local kept, ttls = fields, ''
  if not plain then
    kept = {}
    if with_ttls then ttls = {} end
    for i = 1, #fields, 2 do
      local value = live(fields[i + 1])
      if value then
        kept[#kept + 1], kept[#kept + 2] = fields[i], value
        local deadline = with_ttls and deadline_of(fields[i + 1])
        if deadline then ttls[#ttls + 1], ttls[#ttls + 2] = fields[i], deadline - now() end
      end
    end
  end
  local size = #answer
  if #kept > 0 then answer[size + 1], answer[size + 2], answer[size + 3] = suffix, kept, ttls end
  return #kept / 2
end

-- The answer that is one value, or none.
local function answer_of(value, field, with_ttls)
  if not value then return { '' } end
  local deadline = with_ttls and deadline_of(field)
  return { '', '=', value, deadline and deadline - now() or '' }
end

-- The first element of an answer is its cursor: suffix and scan position of every hash that is still to be read,
-- separated by NUL. A small hash is read whole, a large one piece by piece.
local function read(dir, scope, limit, with_ttls, pending)
  local PIECE, SMALL = 200, 1000
  local answer = { '' }
  if #pending == 0 then
    if scope ~= '>' then
      local value, field = leaf(dir)
      if value then return answer_of(value, field, with_ttls) end
      if scope == '=' then return answer end
    end
    if not limit then
      each_hash(dir, function(at, fields, plain) emit(answer, sub(at, #dir + 1), fields, plain, with_ttls) end)
      return answer
    end
    pending = { '', '0' }
  end
  local room, found, looked = math.max(limit, SMALL), 0, 0
  while #pending > 0 and found < limit and looked < most do
    local suffix, scan = pending[#pending - 1], pending[#pending]
    local at = dir .. suffix
    local size, fields = call('HLEN', at), nil
    if found > 0 and found + math.min(size, 2 * PIECE) > room then break end
    if scan == '0' and size <= room - found then
      fields = call('HGETALL', at)
    else
      local piece = call('HSCAN', at, scan, 'COUNT', PIECE)
      scan, fields = piece[1], piece[2]
    end
    if scan == '0' then
      pending[#pending], pending[#pending - 1] = nil, nil
    else
      pending[#pending] = scan
    end
    local plain = is_plain(fields)
    if not plain then
      for i = 2, #fields, 2 do
        if fields[i] == DIRECTORY then
          pending[#pending + 1], pending[#pending + 2] = suffix .. '.' .. escaped(fields[i - 1]), '0'
        end
      end
    end
    looked = looked + #fields / 2 + 1
    found = found + emit(answer, suffix, fields, plain, with_ttls)
  end
  if #pending > 0 then answer[1] = table.concat(pending, '\0') end
  return answer
end

-- Returns { cursor, { name, ... } }. A name counts if a live value is at it or below. If nothing expired, all do.
local function names(dir, limit, scan)
  local PIECE, SMALL = 200, 1000
  local due = #call('ZRANGEBYSCORE', expiries, '-inf', now(), 'LIMIT', 0, 1) > 0
  local size = call('HLEN', dir)
  local whole = not limit or scan == '0' and size <= math.max(limit, SMALL)
  if not limit then touch(size) end
  if whole and not due then return { '', call('HKEYS', dir) } end
  local found, looked = {}, 0
  local function counts(name, field)
    if not due or live(field) then return true end
    return field == DIRECTORY and each_hash(dir .. '.' .. escaped(name), function(_, fields)
      for i = 2, #fields, 2 do
        if live(fields[i]) then return true end
      end
    end)
  end
  repeat
    local fields
    if whole then
      scan, fields = '0', call('HGETALL', dir)
    else
      local piece = call('HSCAN', dir, scan, 'COUNT', PIECE)
      scan, fields = piece[1], piece[2]
    end
    for i = 1, #fields, 2 do
      if counts(fields[i], fields[i + 1]) then found[#found + 1] = fields[i] end
    end
    looked = looked + #fields / 2
  until scan == '0' or #found >= limit or #found + 2 * PIECE > math.max(limit, SMALL) or looked > most
  return { scan ~= '0' and scan or '', found }
end

-- Checking -------------------------------------------------------------------------------------------------------

-- Whether each live value of the scope starts with the prefix. One value that does not decides it, so a large hash is
-- read piece by piece until there is one. The scope is too large only if as many values as one call may touch do.
local function all_start(dir, scope, prefix)
  local PIECE = 200
  if scope ~= '>' then
    local value = leaf(dir)
    if value or scope == '=' then return not value or sub(value, 1, #prefix) == prefix end
  end
  local pending = { dir }
  while #pending > 0 do
    local at, scan = table.remove(pending), '0'
    local small = call('HLEN', at) <= PIECE
    repeat
      local fields
      if small then
        fields = call('HGETALL', at)
      else
        local piece = call('HSCAN', at, scan, 'COUNT', PIECE)
        scan, fields = piece[1], piece[2]
      end
      for i = 1, #fields, 2 do
        local field = fields[i + 1]
        local value = live(field)
        if value and sub(value, 1, #prefix) ~= prefix then return false end
        if field == DIRECTORY then pending[#pending + 1] = at .. '.' .. escaped(fields[i]) end
      end
      touch(#fields / 2)
    until scan == '0'
  end
  return true
end

-- Whether the live values of the scope are { suffix, name, value, ... }. A page that can hold one more decides it.
local function are_exactly(dir, scope, items)
  local wanted, missing = {}, #items / 3
  touch(missing)
  for i = 1, #items, 3 do wanted[items[i] .. '\0' .. items[i + 1]] = items[i + 2] end
  local answer = read(dir, scope, missing + 1, false, {})
  for group = 2, #answer, 3 do
    local suffix, fields = answer[group], answer[group + 1]
    if suffix == '=' then fields = { '', fields } end
    for i = 1, #fields, 2 do
      missing = missing - 1
      if wanted[suffix .. '\0' .. fields[i]] ~= fields[i + 1] then return false end
    end
  end
  if answer[1] ~= '' and missing >= 0 then error(TOO_MANY) end
  return missing == 0
end

-- Changing -------------------------------------------------------------------------------------------------------

-- Returns prepare(writes, index), apply(write) and sweep(count).
local function writing()
  -- The number of changes, and of TTLs that were set: that many more fields may have expired at the next sweep.
  local changes, given = 0, 0

  local function change(...)
    changes = changes + 1
    return call(...)
  end

  -- Calls a command with many arguments, a bounded and even number at a time.
  local function in_chunks(items, command, key)
    local CHUNK = 2000
    if key and #items > 0 and #items <= CHUNK then
      changes = changes + 1
      call(command, key, unpack(items))
      return
    end
    for first = 1, #items, CHUNK do
      local last = math.min(first + CHUNK - 1, #items)
      if key then
        change(command, key, unpack(items, first, last))
      else
        change(command, unpack(items, first, last))
      end
    end
  end

  local function member(dir, name) return dir .. '\0' .. name end

  local function field_for(value, deadline)
    if deadline then return string.format('\2%016.0f', deadline) .. value end
    local first = byte(value)
    if first and first >= 1 and first <= 3 then return '\3' .. value end
    return value
  end

  -- Removes the markers of directories that have become empty, from this one upwards.
  local function prune(dir)
    while call('HLEN', dir) == 0 do
      local parent, name = split(dir)
      if not parent or redis.pcall('HGET', parent, name) ~= DIRECTORY then return end
      change('HDEL', parent, name)
      dir = parent
    end
  end

  local function sweep(count)
    local due = call('ZRANGEBYSCORE', expiries, '-inf', now(), 'LIMIT', 0, count + given)
    for _, entry in ipairs(due) do
      local cut = find(entry, '%z')
      local dir, name = sub(entry, 1, cut - 1), sub(entry, cut + 1)
      local field = call('HGET', dir, name)
      local deadline = field and deadline_of(field)
      if deadline and deadline <= now() then
        change('HDEL', dir, name)
        prune(dir)
      end
    end
    in_chunks(due, 'ZREM', expiries)
    return #due
  end

  -- What is to be removed below a directory, and after how many changes that was determined.
  local function plan_below(dir)
    local plan = { hashes = {}, expiring = {}, changes = changes }
    local count = call('HLEN', dir)
    if count == 0 then return plan end
    if count <= most - touched then
      -- Most dicts hold plain values only, and reading the values alone is half the work.
      if is_plain(call('HVALS', dir), 1) then
        touch(count)
        plan.hashes[1] = dir
        return plan
      end
    end
    each_hash(dir, function(at, fields, plain)
      plan.hashes[#plan.hashes + 1] = at
      for i = 1, plain and 0 or #fields, 2 do
        if byte(fields[i + 1]) == 2 then plan.expiring[#plan.expiring + 1] = member(at, fields[i]) end
      end
    end)
    return plan
  end

  local function clear_below(dir, plan)
    if not plan or plan.changes ~= changes then plan = plan_below(dir) end
    in_chunks(plan.hashes, 'UNLINK')
    in_chunks(plan.expiring, 'ZREM', expiries)
    return #plan.hashes > 0
  end

  -- Sets the markers that lead to a directory, also in place of leaves.
  local function make_directory(dir)
    if call('HLEN', dir) > 0 then return end
    local parent, name = split(dir)
    if not parent then return end
    local field = call('HGET', parent, name)
    if field == DIRECTORY then return end
    if field and deadline_of(field) then change('ZREM', expiries, member(parent, name)) end
    make_directory(parent)
    change('HSET', parent, name, DIRECTORY)
  end

  local function put(dir, ttl, items)
    local deadline = tonumber(ttl) and now() + tonumber(ttl)
    local fresh = call('HLEN', dir) == 0
    if fresh then
      make_directory(dir)
      if not deadline and is_plain(items) then return in_chunks(items, 'HSET', dir) end
    end
    local fields, scores, persistent = {}, {}, {}
    for i = 1, #items, 2 do
      local name, until_then = items[i], deadline
      local old = not fresh and call('HGET', dir, name)
      if old == DIRECTORY then
        clear_below(dir .. '.' .. escaped(name))
      elseif old and byte(old) == 2 then
        if ttl == 'keep' and live(old) then until_then = deadline_of(old) end
        if not until_then then persistent[#persistent + 1] = member(dir, name) end
      end
      if until_then then
        scores[#scores + 1], scores[#scores + 2] = string.format('%.0f', until_then), member(dir, name)
      end
      fields[i], fields[i + 1] = name, field_for(items[i + 1], until_then)
    end
    in_chunks(persistent, 'ZREM', expiries)
    in_chunks(scores, 'ZADD', expiries)
    given = given + #scores / 2
    in_chunks(fields, 'HSET', dir)
  end

  -- The leaves under these names of a directory, expired ones too: { name, field, ... }.
  local function leaves_among(dir, names)
    local CHUNK, found = 2000, {}
    for first = 1, #names, CHUNK do
      local fields = call('HMGET', dir, unpack(names, first, math.min(first + CHUNK - 1, #names)))
      for i = 1, #fields do
        if fields[i] and fields[i] ~= DIRECTORY then
          found[#found + 1], found[#found + 2] = names[first + i - 1], fields[i]
        end
      end
    end
    return found
  end

  local function remove(dir, leaves)
    local names, expiring = {}, {}
    for i = 1, #leaves, 2 do
      names[#names + 1] = leaves[i]
      if deadline_of(leaves[i + 1]) then expiring[#expiring + 1] = member(dir, leaves[i]) end
    end
    in_chunks(names, 'HDEL', dir)
    in_chunks(expiring, 'ZREM', expiries)
    if #names > 0 then prune(dir) end
  end

  local function delete(dir, scope, plan)
    local parent, name = split(dir)
    if scope == '*' and parent then remove(parent, leaves_among(parent, { name })) end
    if clear_below(dir, plan) and parent and redis.pcall('HGET', parent, name) == DIRECTORY then
      change('HDEL', parent, name)
      prune(parent)
    end
  end

  -- Publishes the number of each listener that a scope names to the channel of its client id. Deletes the names.
  local function notify(dir, scope, channels, plan)
    local function publish(name)
      local client_id, number = match(name, '^([!-.0-~]+)/([!-~]+)$')
      if client_id and #name <= 100 then call('PUBLISH', channels .. client_id, number) end
    end
    local parent, name = split(dir)
    if scope ~= '>' and parent then
      local value = leaf(dir)
      if value then publish(value) end
      remove(parent, leaves_among(parent, { name }))
    end
    if scope == '=' or call('HLEN', dir) == 0 then return end
    each_hash(dir, function(_, fields)
      for i = 2, #fields, 2 do
        local value = live(fields[i])
        if value then publish(value) end
      end
    end)
    delete(dir, '>', plan)
  end

  local function set_ttl(dir, leaves, ttl)
    local deadline = ttl ~= '' and now() + tonumber(ttl) or nil
    local changed, scores, persistent = {}, {}, {}
    for i = 1, #leaves, 2 do
      local name, value = leaves[i], live(leaves[i + 1])
      if value then
        changed[#changed + 1], changed[#changed + 2] = name, field_for(value, deadline)
        if deadline then
          scores[#scores + 1], scores[#scores + 2] = string.format('%.0f', deadline), member(dir, name)
        elseif deadline_of(leaves[i + 1]) then
          persistent[#persistent + 1] = member(dir, name)
        end
      end
    end
    in_chunks(changed, 'HSET', dir)
    in_chunks(scores, 'ZADD', expiries)
    in_chunks(persistent, 'ZREM', expiries)
  end

  local function expire(dir, scope, ttl)
    local parent, name = split(dir)
    if scope == '*' and parent then set_ttl(parent, leaves_among(parent, { name }), ttl) end
    each_hash(dir, function(at, fields) set_ttl(at, fields, ttl) end)
  end

  -- The text of value + amount in 64 bits, or nil. Lua's numbers are doubles, so INCRBY adds large ones.
  local function sum_of(value, amount)
    if not (value == '0' or (#value <= 20 and find(value, '^%-?[1-9]%d*$'))) then return nil end
    if #value < 16 and #amount < 16 then return string.format('%.0f', tonumber(value) + tonumber(amount)) end
    local scratch = session .. ':sum'
    call('SET', scratch, value)
    local fits = pcall(call, 'INCRBY', scratch, amount)
    local total = fits and call('GET', scratch) or nil
    call('DEL', scratch)
    return total
  end

  -- The indices of the writes so far that are no Adds, and by key that of the last Add: most Adds follow Adds.
  local others, added = {}, {}

  -- The value at the key of the write at this index after the writes before it.
  local function value_before(writes, index)
    local key = writes[index].dir
    local parent, name = split(key)
    local last = added[key] or 0
    for number = #others, 1, -1 do
      if others[number] < last then break end
      local write = writes[others[number]]
      if write.kind == 'd' or write.kind == 'w' then
        local at = write.dir == key and write.scope ~= '>'
        local above = write.scope ~= '=' and sub(key, 1, #write.dir + 1) == write.dir .. '.'
        if at or above then return nil end
      elseif write.kind == 'x' and write.dir == parent then
        for _, gone in ipairs(write.items) do
          if gone == name then return nil end
        end
      elseif write.kind == 'p' and write.dir == parent then
        for item = #write.items - 1, 1, -2 do
          if write.items[item] == name then return write.items[item + 1] end
        end
      end
    end
    if last > 0 then return writes[last].sum end
    return (leaf(key))
  end

  -- Reads a directory, and those above it that are to be created with it.
  local function read_upwards(dir)
    while dir and call('HLEN', dir) == 0 do dir = split(dir) end
  end

  -- Whether the scope of this 'w' holds anything, or may do so after the writes before it.
  local function may_name_listeners(writes, index)
    local write = writes[index]
    if write.plan and write.plan.hashes[1] or write.scope ~= '>' and leaf(write.dir) then return true end
    for i = 1, index - 1 do
      if writes[i].kind == 'p' or writes[i].kind == 'a' then return true end
    end
    return false
  end

  -- Reads everything that a write will touch, so that every error is raised before the first change.
  local function prepare(writes, index)
    local write = writes[index]
    if write.kind ~= 'a' then others[#others + 1] = index end
    if write.kind == 'p' then
      touch(#write.items / 2)
      read_upwards(write.dir)
    elseif write.kind == 'a' then
      read_upwards((split(write.dir)))
      write.sum = sum_of(value_before(writes, index) or '0', write.amount)
      added[write.dir] = index
      return write.sum ~= nil
    elseif write.items then
      touch(#write.items)
      call('HLEN', write.dir)
    else
      if write.scope ~= '>' then leaf(write.dir) end
      if write.scope ~= '=' then write.plan = plan_below(write.dir) end
      if write.kind == 'w' and may_name_listeners(writes, index) then
        -- To the channel of no client: a missing permission to publish must be met before the first change.
        call('PUBLISH', write.channels, '')
      end
    end
    return true
  end

  local function apply(write)
    if write.kind == 'p' then
      put(write.dir, write.ttl, write.items)
    elseif write.kind == 'a' then
      local parent, name = split(write.dir)
      put(parent, 'keep', { name, write.sum })
    elseif write.kind == 'd' then
      delete(write.dir, write.scope, write.plan)
    elseif write.kind == 'w' then
      notify(write.dir, write.scope, write.channels, write.plan)
    elseif write.kind == 'x' then
      remove(write.dir, leaves_among(write.dir, write.items))
    elseif write.kind == 'l' then
      set_ttl(write.dir, leaves_among(write.dir, write.items), write.ttl)
    else
      expire(write.dir, write.scope, write.ttl)
    end
  end

  return prepare, apply, sweep
end

-- The request ----------------------------------------------------------------------------------------------------

local prepare, apply, sweep

local function run()
  local position = 7
  local function argument()
    position = position + 1
    return ARGV[position]
  end
  local function arguments(count)
    local CHUNK = 2000
    local list = { unpack(ARGV, position + 1, position + math.min(count, CHUNK)) }
    for i = CHUNK + 1, count do list[i] = ARGV[position + i] end
    position = position + count
    return list
  end

  local reply, writes, checked = { '+', 0 }, {}, 0
  local function settle(holds)
    checked = checked + 1
    if reply[1] == '+' and not holds then reply[1], reply[2] = '!', checked end
  end
  for _ = 1, tonumber(ARGV[5]) do
    local kind = argument()
    if kind == 'f' then
      settle(value_at(argument(), argument()) == argument())
    else
      local scope, count = argument(), tonumber(argument())
      if kind == '^' then
        local prefix = argument()
        for _ = 1, count do settle(all_start(argument(), scope, prefix)) end
      else
        settle(are_exactly(argument(), scope, arguments(3 * count)))
      end
    end
  end
  for i = 1, tonumber(ARGV[6]) do
    local kind = argument()
    if kind == 'f' then
      local value, field = value_at(argument(), argument())
      reply[2 + i] = answer_of(value, field, argument() == '1')
    else
      local dir, scope, limit, with_ttls = argument(), argument(), tonumber(argument()), argument() == '1'
      local pending = arguments(tonumber(argument()))
      if kind == 'n' then
        reply[2 + i] = names(dir, limit, pending[1] or '0')
      else
        reply[2 + i] = read(dir, scope, limit, with_ttls, pending)
      end
    end
  end
  if reply[1] ~= '+' or ARGV[7] == '0' then return reply, writes end
  prepare, apply, sweep = writing()
  -- A foreign key instead of the index must be met before the first change.
  call('ZCARD', expiries)
  if ARGV[position + 1] == 's' then
    local _, dir, ttl, value = argument(), argument(), argument(), argument()
    local parent, name = split(dir)
    writes = { { kind = 'd', dir = dir, scope = '>' } }
    writes[2] = { kind = 'p', dir = parent, ttl = ttl, items = { name, value } }
    prepare(writes, 1)
    prepare(writes, 2)
    return reply, writes
  end
  for i = 1, tonumber(ARGV[7]) do
    local write = { kind = argument(), dir = argument() }
    if write.kind == 'p' then
      write.ttl = argument()
      write.items = arguments(2 * tonumber(argument()))
    elseif write.kind == 'a' then
      write.amount = argument()
    elseif write.kind == 'x' then
      write.items = arguments(tonumber(argument()))
    elseif write.kind == 'l' then
      write.ttl = argument()
      write.items = arguments(tonumber(argument()))
    else
      write.scope = argument()
      if write.kind == 'e' then write.ttl = argument() end
      if write.kind == 'w' then write.channels = argument() end
    end
    writes[i] = write
    if not prepare(writes, i) then
      reply[1], reply[2] = '#', i
      return reply, {}
    end
  end
  return reply, writes
end

local fine, reply, writes = pcall(run)
if not fine then
  if reply ~= TOO_MANY then error(reply) end
  if not sweep then prepare, apply, sweep = writing() end
  if sweep(2000) > 0 then return { 'A' } end
  reply, writes = { 'L' }, {}
end
if #writes > 0 then
  most = math.huge
  for _, write in ipairs(writes) do
    apply(write)
    if write.sum then reply[#reply + 1] = write.sum end
  end
  sweep(32)
end
if session ~= '' then
  local function packed(item, out)
    if type(item) == 'table' then
      out[#out + 1] = 'l' .. #item .. ':'
      for _, inner in ipairs(item) do packed(inner, out) end
    else
      local text = type(item) == 'number' and string.format('%.0f', item) or item
      out[#out + 1] = 's' .. #text .. ':' .. text
    end
    return out
  end
  call('SET', session, ARGV[3] .. table.concat(packed(reply, {})), 'PX', SESSION_TTL)
end
return reply
