-- The request ----------------------------------------------------------------------------------------------------

-- Arguments: expiry index, session ('' if nothing is written), number of the request in the session, most fields that
--       one call may touch, counts of checks, reads and writes, and then their arguments one after the other (see
--       wire.py).
--       Checks are '^' of several keys   '=' of one key   'f' of one field.
--       Reads are 'r' values   'n' names   'f' one field.
--       Capital letters are for record spaces: checks 'S' of the beginnings of the same ranges in several spaces, 'Q'
--       of what is in a range, 'G' of one record; reads 'R' values, 'N' names, 'G' one record; writes 'P' put, 'I' add, 'D' delete,
--       'E' expire, 'W' notify.
--       Writes are
--       'p' put into a dict   'x' remove names of a dict   'l' set the TTL of names of a dict   'a' add
--       'd' delete   'e' expire, both below a key or at and below it   's' a delete below a key and a put there, alone
--       'o' put documents into a dict   'z' split a document into the fields of hashes, if it is still there, alone
--       'w' notify the listeners that the values of any scope name, and delete these values
--       If the space v is written, the changes of each section follow the writes: a channel and a message. For a cluster,
--       the command that publishes there is last.
--       Instead of the counts, 'm' and a record space have that rewritten.
-- Reply: { status, failed index, answer, ..., counter, ... }, or { status } alone for 'L', 'A' and 'S'.
--   '+' applied   '!' a check failed   '#' not a counter   'L' too large
--   'A' expired fields were in the way, and some of them are removed: send the call again
--   'D' a document is in the way: split the field that follows after its place, and send the call again
--   'M' an earlier version has stored a record space, which follows: have it rewritten, and send the call again
--   'S' a later request of the same session was applied before
--   'R' this request was applied before: its reply follows, packed

-- As text: a number that is passed to a command is formatted first, which takes longer than a small command.
local SESSION_TTL, SWEPT_IN_TURN, SWEPT_TO_MAKE_ROOM = '300000', 128, '2000'

local OF_RECORDS = { S = true, Q = true, G = true, R = true, N = true, P = true, I = true, D = true, E = true, W = true }

-- Where in the arguments the call is, and what its reply is to be. Part of its state as well.
local position, reply, writes, checked

local function argument()
  position = position + 1
  return args[position]
end

local function arguments(count)
  local CHUNK = 2000
  local list = { unpack(args, position + 1, position + math.min(count, CHUNK)) }
  for i = CHUNK + 1, count do list[i] = args[position + i] end
  position = position + count
  return list
end

local function settle(holds)
  checked = checked + 1
  if reply[1] == '+' and not holds then reply[1], reply[2] = '!', checked end
end

local function check_records(kind)
  if not record_at then recording() end
  if kind == 'G' then
    settle(record_at(argument(), argument()) == argument())
  elseif kind == 'S' then
    local prefix, sets, ranges = argument(), number_of(argument()), number_of(argument())
    local from = position + sets
    for i = position + 1, from do
      local set = args[i]
      record_set = set
      local is_empty = call('ZCARD', set) == 0
      if is_empty then found_none(set, '') end
      for at = from + 1, from + 2 * ranges, 2 do
        settle(is_empty or all_records_start(set, args[at], args[at + 1], prefix))
      end
    end
    position = from + 2 * ranges
  else
    settle(are_exactly_records(argument(), argument(), argument(), arguments(2 * number_of(argument()))))
  end
end

local function check()
  local kind = argument()
  if kind == 'f' then
    local dir, name, expected = argument(), argument(), argument()
    local value, field = value_at(dir, name)
    if not field then leave_document(dir) end
    settle(value == expected)
    return
  end
  if OF_RECORDS[kind] then return check_records(kind) end
  if not read then reading() end
  local scope, count = argument(), number_of(argument())
  if kind == '^' then
    local prefix = argument()
    for _ = 1, count do settle(all_start(argument(), scope, prefix)) end
  else
    settle(are_exactly(argument(), scope, arguments(3 * count)))
  end
end

local function answer()
  local kind = argument()
  if kind == 'f' then
    local dir, name, with_ttls = argument(), argument(), argument() == '1'
    local value, field = value_at(dir, name)
    if field then return answer_of(value, field, with_ttls) end
    if not read then reading() end
    return read(dir .. '.' .. escaped(name), '=', nil, with_ttls, {})
  end
  if OF_RECORDS[kind] then
    if not record_at then recording() end
    local set, first = argument(), argument()
    if kind == 'G' then return get_record(set, first, argument() == '1') end
    local last, limit = argument(), number_of(argument())
    if kind == 'N' then return record_names(set, first, last, number_of(argument()), limit) end
    return read_records(set, first, last, limit, argument() == '1')
  end
  if not read then reading() end
  local dir, scope, limit, with_ttls = argument(), argument(), number_of(argument()), argument() == '1'
  local pending = arguments(number_of(argument()))
  if kind == 'n' then return names(dir, limit, pending[1] or '0') end
  return read(dir, scope, limit, with_ttls, pending)
end

-- A table that is made with all its fields is not made larger with each.
local function next_write_of_record(kind, at)
  if not record_at then recording() end
  local set, path, third, fourth = args[at + 2], args[at + 3], args[at + 4], args[at + 5]
  if kind == 'P' then
    position = at + 5
    return { kind = kind, set = set, path = path, scope = '=', ttl = third, value = fourth, found = false }
  elseif kind == 'I' then
    position = at + 4
    return { kind = kind, set = set, path = path, scope = '=', amount = third, found = false, sum = false }
  elseif kind == 'D' then
    position = at + 4
    return { kind = kind, set = set, path = path, scope = third, found = false }
  end
  position = at + 5
  return { kind = kind, set = set, path = path, scope = third, ttl = fourth, channels = fourth, found = false }
end

local function next_write()
  local kind = args[position + 1]
  if OF_RECORDS[kind] then return next_write_of_record(kind, position) end
  position = position + 1
  local write = { kind = kind, dir = argument(), ttl = false, items = false, old = nil }
  if kind == 's' then
    write.kind, write.items, write.ttl = 'p', { argument(), false }, argument()
    write.items[2] = argument()
  elseif kind == 'z' then
    write.field, write.deadline, write.hashes = argument(), argument(), {}
    while position < #args do
      write.hashes[#write.hashes + 1] = { write.dir .. argument(), arguments(2 * number_of(argument())) }
    end
  elseif kind == 'p' or kind == 'o' then
    write.ttl = argument()
    write.items = arguments(2 * number_of(argument()))
  elseif kind == 'a' then
    write.name, write.amount = argument(), argument()
  elseif kind == 'x' then
    write.items = arguments(number_of(argument()))
  elseif kind == 'l' then
    write.ttl = argument()
    write.items = arguments(number_of(argument()))
  else
    write.scope = argument()
    if kind == 'e' then write.ttl = argument() end
    if kind == 'w' then write.channels = argument() end
  end
  return write
end

-- Finds out the reply and the writes, and changes nothing.
local function decide()
  for _ = 1, number_of(args[5]) do check() end
  for i = 1, number_of(args[6]) do reply[2 + i] = answer() end
  local count = number_of(args[7])
  if reply[1] ~= '+' or count == 0 then return end
  if not prepare then writing() end
  local prepared = {}
  for i = 1, count do
    prepared[i] = next_write()
    if not (prepared[i].set and prepare_record or prepare)(prepared, i) then
      reply[1], reply[2] = '#', i
      return
    end
  end
  -- What sweeps removes more expired fields than the calls set TTLs, so their number is bounded. A call that sets many
  -- sweeps, and of the others one in four. Which one also depends on the session, for some make few calls.
  if given > SWEPT_IN_TURN / 8 or (byte(args[3], -1) + (byte(session, -1) or 0)) % 4 == 0 then
    find_due(text_of(given + SWEPT_IN_TURN))
  else
    -- A foreign key instead of the index is to be met before the first change.
    call('ZCARD', expiries)
  end
  writes = prepared
end

-- Appends a reply to the pieces of its text, of which there are so many, and returns how many there are then. A list
-- begins with 'l', its length and a colon, and a text with 's', its length and a colon.
local heads_of_lists, heads_of_texts = {}, {}

local function head(heads, first, size)
  local text = format('%s%d:', first, size)
  if size <= 999 then heads[size] = text end
  return text
end

local function pack(list, pieces, count)
  count = count + 1
  pieces[count] = heads_of_lists[#list] or head(heads_of_lists, 'l', #list)
  for i = 1, #list do
    local item = list[i]
    local kind = type(item)
    if kind == 'table' then
      count = pack(item, pieces, count)
    else
      if kind == 'number' then item = text_of(item) end
      pieces[count + 1] = heads_of_texts[#item] or head(heads_of_texts, 's', #item)
      pieces[count + 2] = item
      count = count + 2
    end
  end
  return count
end

-- Tells those who watch a section what was written there. A user who may not publish writes all the same: watchers also
-- look by themselves. For a cluster, the command publishes to one node and its replicas, if the server knows it.
local function publish_changes()
  local command = (#args - position) % 2 == 1 and args[#args]
  for i = position + 1, #args - 1, 2 do
    local told = redis.pcall(command or 'PUBLISH', args[i], args[i + 1])
    if command and type(told) == 'table' then redis.pcall('PUBLISH', args[i], args[i + 1]) end
  end
end

local function transact(given_args)
  begin(given_args)
  if args[5] == 'm' then
    if not record_at then recording() end
    migrate(args[6])
    return { '+', 0 }
  end
  position, writes, checked = 7, nil, 0
  reply = { '+', 0 }
  if session ~= '' then
    local last = call('GET', session)
    if last then
      local done, number = sub(last, 1, 16), args[3]
      if done == number then
        -- WAIT, which may follow, is about what this connection has written.
        redis.pcall('SET', session, last, 'PX', SESSION_TTL)
        return { 'R', sub(last, 17) }
      end
      if done > number then return { 'S' } end
    end
  end
  local fine, failure = pcall(decide)
  if not fine then
    if in_the_way then return in_the_way end
    if failure ~= TOO_MANY then
      local size = record_set and redis.pcall('HLEN', record_set)
      if type(size) == 'number' and size > 0 then return { 'M', record_set } end
      error(failure)
    end
    if not prepare then writing() end
    if not record_at then recording() end
    find_due(SWEPT_TO_MAKE_ROOM)
    sweep()
    if #due > 0 then return { 'A' } end
    reply, writes = { 'L' }, nil
  end
  if writes then
    most = math.huge
    for _, write in ipairs(writes) do
      if write.set then apply_record(write) else apply(write) end
      if write.sum then reply[#reply + 1] = write.sum end
    end
    if position < #args then publish_changes() end
    if due and due[1] then
      if not record_at then recording() end
      sweep()
    end
  end
  if session ~= '' then
    local text
    local sum = reply[3]
    if reply[1] == '+' and (not sum or (type(sum) == 'string' and not reply[4])) then
      -- Most replies have no answer, and one counter at most.
      text = args[3] .. (sum and 'l3:s1:+s1:0s' .. #sum .. ':' .. sum or 'l2:s1:+s1:0')
    else
      local pieces = { args[3] }
      pack(reply, pieces, 1)
      text = table.concat(pieces)
    end
    call('SET', session, text, 'PX', SESSION_TTL)
  end
  return reply
end
