-- Executes one minitransaction on the layout described in layout.py. The meaning of every step is that of
-- redicts/core/transaction.py; nothing here knows what values are used for.
--
-- ARGV: expiry index, lane ('' if nothing is written), number of the request, most fields one call may touch,
--       counts of checks, reads and writes, and then their words one after the other (see words.py). Checks are
--       '^' of several keys   '=' of one key   'f' of one field. Reads are 'r' values   'n' names   'f' one field.
--       Writes are
--       'p' put into a dict   'x' remove names of a dict   'l' give names of a dict a life   'a' add
--       'd' delete   'e' expire, both below a key or at and below it   's' a delete below a key and a put there, alone
--       'w' wake those whose names are the values of any scope, and delete them
-- Reply: { status, culprit, answer, ..., sum, ... }, or { status } alone for 'L', 'A' and 'S'.
--   '+' applied   '!' a check failed   '#' not a counter   'L' too large
--   'A' expired fields were in the way and some are gone now: send it again
--   'S' this request was overtaken by a later one of its lane
--   'R' sent before: the reply of then follows, packed
--
-- A call makes every function it passes anew, which costs more than most commands do. So what is needed for some
-- calls only is made inside the function that needs it.

local call, byte, sub, find, match = redis.call, string.byte, string.sub, string.find, string.match
local ARGV = ARGV
local expiries, lane = ARGV[1], ARGV[2]

-- As text: a number that is passed to a command is printed first, which takes longer than a small command.
local LANE_LIFE = '300000'

if lane ~= '' then
  local last = call('GET', lane)
  if last then
    local done, number = tonumber(sub(last, 1, 16)), tonumber(ARGV[3])
    if done == number then return { 'R', sub(last, 17) } end
    if done > number then return { 'S' } end
  end
end

-- The most frequent requests are answered before anything is made: the read of one leaf or of a dict of plain leaves,
-- and the store of one leaf where a leaf is already or where a dict lacks the name. None has to see to lives.
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
      call('SET', lane, ARGV[3] .. 'l2:s1:+s1:0', 'PX', LANE_LIFE)
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

-- The value in a field, or nil for a directory and for a value whose life is over.
local function live(field)
  local first = byte(field)
  if not first or first > 3 or first == 0 then return field end
  if first == 3 then return sub(field, 2) end
  if first == 2 and tonumber(sub(field, 2, 17)) > now() then return sub(field, 18) end
  return nil
end

-- The short way --------------------------------------------------------------------------------------------------

-- Carries out a small request that meets nothing unusual, as those of locks and guarded writes do: for it, neither the
-- functions of the long way are made, which is most of what they cost, nor is anything looked at twice.
--
-- It collects its changes while it looks, so that before the first one it can give up at any point; the long way then
-- starts from the beginning. Each of its writes is in another space, so none touches what another has looked at.
local function short_way()
  local at, reply, record, changes, spaces, checked = 7, { '+', 0 }, '', {}, {}, 0

  local function is_plain(field)
    local first = byte(field)
    return not first or first > 3 or first == 0
  end

  -- Calls visit(directory, name, value) for each live value below a directory; returns nothing if there is much there.
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
          if value then visit(at, name, value) end
        end
      end
    end
    return true
  end

  -- Collects the removal of the markers of a directory that will be empty, and of those above that will be so then.
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
        -- Mostly nothing is there, and then nothing is made for it.
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
      local life = ''
      if value and ARGV[at + 4] ~= '' and byte(field) == 2 then
        life = string.format('%.0f', tonumber(sub(field, 2, 17)) - now())
      end
      reply[#reply + 1] = value and { '', '=', value, life } or { '' }
      record = record .. (value and 'l4:s0:s1:=s' .. #value .. ':' .. value .. 's' .. #life .. ':' .. life or 'l1:s0:')
      at = at + 4
    elseif kind == 'r' and ARGV[at + 3] == '>' and ARGV[at + 5] == '' and ARGV[at + 6] == '0' then
      if tonumber(ARGV[at + 4] ~= '' and ARGV[at + 4] or 1000) < 64 then return nil end
      local answer, text = { '' }, ''
      local whole = each_value(dir, function(where, name, value)
        local suffix = sub(where, #dir + 1)
        answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = suffix, { name, value }, ''
        text = text .. 's' .. #suffix .. ':' .. suffix
        text = text .. 'l2:s' .. #name .. ':' .. name .. 's' .. #value .. ':' .. value .. 's0:'
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
      local life, value = ARGV[at + 3], ARGV[at + 4]
      local parent, name = split(dir)
      if not parent or life ~= '' or not is_plain(value) then return nil end
      local old = call('HGET', parent, name)
      if old and not is_plain(old) or not old and call('HLEN', parent) == 0 then return nil end
      changes[#changes + 1] = { 'HSET', parent, name, value }
      at = at + 4
    elseif kind == 'p' then
      local life, count, name, value = tonumber(ARGV[at + 3]), ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
      if not life or count ~= '1' then return nil end
      local above, last = dir, nil
      while call('HLEN', above) == 0 do
        local parent, below = split(above)
        if not parent then break end
        changes[#changes + 1] = { 'HSET', parent, below, DIRECTORY }
        above, last = parent, below
      end
      local old = call('HGET', above, last or name)
      if old and (last or not is_plain(old) and byte(old) ~= 2) then return nil end
      local deadline = string.format('%016.0f', now() + life)
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
        -- To a station that nobody has: what forbids to publish must be met before the first change.
        call('PUBLISH', channels, '')
        for i = 1, #listed, 2 do
          local field = listed[i + 1]
          if field == DIRECTORY then return nil end
          local station, number = match(live(field) or '', '^([!-.0-~]+)/([!-~]+)$')
          if station and #station + #number < 100 then
            changes[#changes + 1] = { 'PUBLISH', channels .. station, number }
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

  -- What is due must be swept, which is left to the long way. A foreign key in the place of the index is met here.
  -- Its size alone spares the look at the clock, if nothing else has looked at it.
  if clock or call('ZCARD', expiries) > 0 then
    local _, until_now = now()
    if #call('ZRANGEBYSCORE', expiries, '-inf', until_now, 'LIMIT', '0', '1') > 0 then return nil end
  end
  for _, change in ipairs(changes) do call(unpack(change)) end
  record = 'l' .. #reply .. ':s1:' .. reply[1] .. 's' .. #tostring(reply[2]) .. ':' .. reply[2] .. record
  call('SET', lane, ARGV[3] .. record, 'PX', LANE_LIFE)
  return reply
end

if lane ~= '' then
  local reply = short_way()
  if reply then return reply end
end

-- The long way ---------------------------------------------------------------------------------------------------

local most = tonumber(ARGV[4])
local TOO_MANY = {}

local function deadline_of(field)
  return byte(field) == 2 and tonumber(sub(field, 2, 17)) or nil
end

-- Whether { name, field, ... }, or with step 1 { field, ... }, holds neither directories nor lives nor escapes.
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

-- Calls visit(directory, fields, plain) for every hash at and below a directory, until it returns true; counts what
-- that touches.
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

-- Adds what is live of a hash to an answer: suffix, { name, value, ... }, { name, remaining life, ... }.
local function emit(answer, suffix, fields, plain, with_lives)
  local kept, lives = fields, ''
  if not plain then
    kept = {}
    if with_lives then lives = {} end
    for i = 1, #fields, 2 do
      local value = live(fields[i + 1])
      if value then
        kept[#kept + 1], kept[#kept + 2] = fields[i], value
        local deadline = with_lives and deadline_of(fields[i + 1])
        if deadline then lives[#lives + 1], lives[#lives + 2] = fields[i], deadline - now() end
      end
    end
  end
  local size = #answer
  if #kept > 0 then answer[size + 1], answer[size + 2], answer[size + 3] = suffix, kept, lives end
  return #kept / 2
end

-- The answer that is one value, or none.
local function answer_of(value, field, with_lives)
  if not value then return { '' } end
  local deadline = with_lives and deadline_of(field)
  return { '', '=', value, deadline and deadline - now() or '' }
end

-- The first element of an answer is its cursor: suffix and scan position of every hash that is still to be walked,
-- with NUL between. A small hash is read whole, a large one piece by piece.
local function read(dir, scope, limit, with_lives, pending)
  local PIECE, SMALL = 200, 1000
  local answer = { '' }
  if #pending == 0 then
    if scope ~= '>' then
      local value, field = leaf(dir)
      if value then return answer_of(value, field, with_lives) end
      if scope == '=' then return answer end
    end
    if not limit then
      each_hash(dir, function(at, fields, plain) emit(answer, sub(at, #dir + 1), fields, plain, with_lives) end)
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
    found = found + emit(answer, suffix, fields, plain, with_lives)
  end
  if #pending > 0 then answer[1] = table.concat(pending, '\0') end
  return answer
end

-- { cursor, { name, ... } }. A name counts if something live is at it or below; if nothing is due, all do.
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

-- Each live value of the scope starts with the prefix. It is too much to say only when so many were looked at and all
-- do: one that does not settles it, so a large hash is looked at piece by piece until there is one.
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

-- The live values of the scope are these: { suffix, name, value, ... }. One page that can hold one more settles it.
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
  -- How many changes were made, and how many lives were given: that many more may be over at the next sweep.
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

  -- What removing everything below a directory comes down to, and after how many changes that was found out.
  local function plan_below(dir)
    local plan = { hashes = {}, mortal = {}, changes = changes }
    local count = call('HLEN', dir)
    if count == 0 then return plan end
    if count <= most - touched then
      -- Most dicts hold plain values only, and values alone are half of what there is to look at.
      if is_plain(call('HVALS', dir), 1) then
        touch(count)
        plan.hashes[1] = dir
        return plan
      end
    end
    each_hash(dir, function(at, fields, plain)
      plan.hashes[#plan.hashes + 1] = at
      for i = 1, plain and 0 or #fields, 2 do
        if byte(fields[i + 1]) == 2 then plan.mortal[#plan.mortal + 1] = member(at, fields[i]) end
      end
    end)
    return plan
  end

  local function clear_below(dir, plan)
    if not plan or plan.changes ~= changes then plan = plan_below(dir) end
    in_chunks(plan.hashes, 'UNLINK')
    in_chunks(plan.mortal, 'ZREM', expiries)
    return #plan.hashes > 0
  end

  -- Sees to the markers that lead to a directory; leaves on the way give way to them.
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

  local function put(dir, life, items)
    local deadline = tonumber(life) and now() + tonumber(life)
    local fresh = call('HLEN', dir) == 0
    if fresh then
      make_directory(dir)
      if not deadline and is_plain(items) then return in_chunks(items, 'HSET', dir) end
    end
    local fields, scores, lasting = {}, {}, {}
    for i = 1, #items, 2 do
      local name, until_then = items[i], deadline
      local old = not fresh and call('HGET', dir, name)
      if old == DIRECTORY then
        clear_below(dir .. '.' .. escaped(name))
      elseif old and byte(old) == 2 then
        if life == 'keep' and live(old) then until_then = deadline_of(old) end
        if not until_then then lasting[#lasting + 1] = member(dir, name) end
      end
      if until_then then
        scores[#scores + 1], scores[#scores + 2] = string.format('%.0f', until_then), member(dir, name)
      end
      fields[i], fields[i + 1] = name, field_for(items[i + 1], until_then)
    end
    in_chunks(lasting, 'ZREM', expiries)
    in_chunks(scores, 'ZADD', expiries)
    given = given + #scores / 2
    in_chunks(fields, 'HSET', dir)
  end

  -- The leaves under these names of a directory, dead ones too: { name, field, ... }.
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
    local names, mortal = {}, {}
    for i = 1, #leaves, 2 do
      names[#names + 1] = leaves[i]
      if deadline_of(leaves[i + 1]) then mortal[#mortal + 1] = member(dir, leaves[i]) end
    end
    in_chunks(names, 'HDEL', dir)
    in_chunks(mortal, 'ZREM', expiries)
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

  -- Publishes the number of each listener that is named in a scope to the channel of its station; deletes the names.
  local function wake(dir, scope, channels, plan)
    local function publish(name)
      local station, number = match(name, '^([!-.0-~]+)/([!-~]+)$')
      if station and #name <= 100 then call('PUBLISH', channels .. station, number) end
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

  local function give_life(dir, leaves, life)
    local deadline = life ~= '' and now() + tonumber(life) or nil
    local changed, scores, lasting = {}, {}, {}
    for i = 1, #leaves, 2 do
      local name, value = leaves[i], live(leaves[i + 1])
      if value then
        changed[#changed + 1], changed[#changed + 2] = name, field_for(value, deadline)
        if deadline then
          scores[#scores + 1], scores[#scores + 2] = string.format('%.0f', deadline), member(dir, name)
        elseif deadline_of(leaves[i + 1]) then
          lasting[#lasting + 1] = member(dir, name)
        end
      end
    end
    in_chunks(changed, 'HSET', dir)
    in_chunks(scores, 'ZADD', expiries)
    in_chunks(lasting, 'ZREM', expiries)
  end

  local function expire(dir, scope, life)
    local parent, name = split(dir)
    if scope == '*' and parent then give_life(parent, leaves_among(parent, { name }), life) end
    each_hash(dir, function(at, fields) give_life(at, fields, life) end)
  end

  -- The text of value + amount in 64 bits, or nil. Lua's numbers are doubles, so large ones are left to INCRBY.
  local function sum_of(value, amount)
    if not (value == '0' or (#value <= 20 and find(value, '^%-?[1-9]%d*$'))) then return nil end
    if #value < 16 and #amount < 16 then return string.format('%.0f', tonumber(value) + tonumber(amount)) end
    local scratch = lane .. ':sum'
    call('SET', scratch, value)
    local fits = pcall(call, 'INCRBY', scratch, amount)
    local total = fits and call('GET', scratch) or nil
    call('DEL', scratch)
    return total
  end

  -- What the key of the write at this index holds once the writes before it are done.
  local function value_before(writes, index)
    local key = writes[index].dir
    local parent, name = split(key)
    for i = index - 1, 1, -1 do
      local write = writes[i]
      if write.kind == 'd' or write.kind == 'w' then
        local at = write.dir == key and write.scope ~= '>'
        local above = write.scope ~= '=' and sub(key, 1, #write.dir + 1) == write.dir .. '.'
        if at or above then return nil end
      elseif write.kind == 'x' and write.dir == parent then
        for _, gone in ipairs(write.items) do
          if gone == name then return nil end
        end
      elseif write.kind == 'a' and write.dir == key then
        return write.sum
      elseif write.kind == 'p' and write.dir == parent then
        for item = #write.items - 1, 1, -2 do
          if write.items[item] == name then return write.items[item + 1] end
        end
      end
    end
    return (leaf(key))
  end

  -- Looks at a directory, and at those above it that will have to be made.
  local function look_up_from(dir)
    while dir and call('HLEN', dir) == 0 do dir = split(dir) end
  end

  -- Whether the scope of this 'w' holds anything, or may do so when the writes before it are done.
  local function may_name_somebody(writes, index)
    local write = writes[index]
    if write.plan and write.plan.hashes[1] or write.scope ~= '>' and leaf(write.dir) then return true end
    for i = 1, index - 1 do
      if writes[i].kind == 'p' or writes[i].kind == 'a' then return true end
    end
    return false
  end

  -- Looks at everything that a write will touch, so that whatever can go wrong goes wrong before the first change.
  local function prepare(writes, index)
    local write = writes[index]
    if write.kind == 'p' then
      touch(#write.items / 2)
      look_up_from(write.dir)
    elseif write.kind == 'a' then
      look_up_from((split(write.dir)))
      write.sum = sum_of(value_before(writes, index) or '0', write.amount)
      return write.sum ~= nil
    elseif write.items then
      touch(#write.items)
      call('HLEN', write.dir)
    else
      if write.scope ~= '>' then leaf(write.dir) end
      if write.scope ~= '=' then write.plan = plan_below(write.dir) end
      if write.kind == 'w' and may_name_somebody(writes, index) then
        -- To a station that nobody has: what forbids to publish must be met before the first change.
        call('PUBLISH', write.channels, '')
      end
    end
    return true
  end

  local function apply(write)
    if write.kind == 'p' then
      put(write.dir, write.life, write.items)
    elseif write.kind == 'a' then
      local parent, name = split(write.dir)
      put(parent, 'keep', { name, write.sum })
    elseif write.kind == 'd' then
      delete(write.dir, write.scope, write.plan)
    elseif write.kind == 'w' then
      wake(write.dir, write.scope, write.channels, write.plan)
    elseif write.kind == 'x' then
      remove(write.dir, leaves_among(write.dir, write.items))
    elseif write.kind == 'l' then
      give_life(write.dir, leaves_among(write.dir, write.items), write.life)
    else
      expire(write.dir, write.scope, write.life)
    end
  end

  return prepare, apply, sweep
end

-- The request ----------------------------------------------------------------------------------------------------

local prepare, apply, sweep

local function run()
  local position = 7
  local function word()
    position = position + 1
    return ARGV[position]
  end
  local function words(count)
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
    local kind = word()
    if kind == 'f' then
      settle(value_at(word(), word()) == word())
    else
      local scope, count = word(), tonumber(word())
      if kind == '^' then
        local prefix = word()
        for _ = 1, count do settle(all_start(word(), scope, prefix)) end
      else
        settle(are_exactly(word(), scope, words(3 * count)))
      end
    end
  end
  for i = 1, tonumber(ARGV[6]) do
    local kind = word()
    if kind == 'f' then
      local value, field = value_at(word(), word())
      reply[2 + i] = answer_of(value, field, word() == '1')
    else
      local dir, scope, limit, with_lives = word(), word(), tonumber(word()), word() == '1'
      local pending = words(tonumber(word()))
      if kind == 'n' then
        reply[2 + i] = names(dir, limit, pending[1] or '0')
      else
        reply[2 + i] = read(dir, scope, limit, with_lives, pending)
      end
    end
  end
  if reply[1] ~= '+' or ARGV[7] == '0' then return reply, writes end
  prepare, apply, sweep = writing()
  -- A foreign key in the place of the index must be met before the first change.
  call('ZCARD', expiries)
  if ARGV[position + 1] == 's' then
    local _, dir, life, value = word(), word(), word(), word()
    local parent, name = split(dir)
    writes = { { kind = 'd', dir = dir, scope = '>' } }
    writes[2] = { kind = 'p', dir = parent, life = life, items = { name, value } }
    prepare(writes, 1)
    prepare(writes, 2)
    return reply, writes
  end
  for i = 1, tonumber(ARGV[7]) do
    local write = { kind = word(), dir = word() }
    if write.kind == 'p' then
      write.life = word()
      write.items = words(2 * tonumber(word()))
    elseif write.kind == 'a' then
      write.amount = word()
    elseif write.kind == 'x' then
      write.items = words(tonumber(word()))
    elseif write.kind == 'l' then
      write.life = word()
      write.items = words(tonumber(word()))
    else
      write.scope = word()
      if write.kind == 'e' then write.life = word() end
      if write.kind == 'w' then write.channels = word() end
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
if lane ~= '' then
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
  call('SET', lane, ARGV[3] .. table.concat(packed(reply, {})), 'PX', LANE_LIFE)
end
return reply
