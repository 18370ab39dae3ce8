-- Record spaces ---------------------------------------------------------------------------------------------------

-- Such a space holds what is written and removed soon, as the records of locks. It is one sorted set, all of whose scores
-- are 0, so its members are in the order of their bytes. A member is its path, NUL, 16 digits, and the value: see
-- layout.py. So a scope is one range.

local NOTHING = {}

-- Functions that recording() makes.
local all_records_start, are_exactly_records, record_at, get_record, read_records, record_names
local prepare_record, apply_record, migrate

-- A check has found no record below a path of a space, or none in the space at all.
local function found_none(set, path)
  empty_below = empty_below or {}
  empty_below[set] = path
end

local function recording()
  local PIECE, ALL_OF_PIECE = 200, '200'
  local FIRST = { ['>'] = '\2', ['*'] = '\0' }

  -- Where a path ends in its member.
  local function end_of(member) return find(member, '\0', 1, true) end

  local function deadline_in(member, at)
    local digits = sub(member, at + 1, at + 16)
    return digits ~= NEVER and digits or nil
  end

  -- The value in a member, or nil if it has expired.
  local function live_in(member, at)
    local digits = deadline_in(member, at)
    if digits and digits <= moment() then return nil end
    return sub(member, at + 17)
  end

  -- What stands for a record in the index of TTLs. The first byte tells it from a leaf.
  local function indexed_as(set, path) return '\0' .. set .. '\0' .. path end

  local function range(set, first, last, count)
    record_set = set
    return call('ZRANGEBYLEX', set, first, last, 'LIMIT', '0', count)
  end

  -- The members in a scope, which all count as touched.
  local function members(set, path, scope)
    local found
    if scope == '=' then
      if not (changed_sets and changed_sets[set]) then
        if last_set == set and last_path == path then return last_found end
        -- A check has found nothing below another path: so there is nothing here.
        local above = empty_below and empty_below[set]
        if above and #path > #above and sub(path, 1, #above) == above then return NOTHING end
      end
      record_set = set
      found = call('ZRANGEBYLEX', set, '[' .. path .. '\0', '(' .. path .. '\1')
      last_set, last_path, last_found = set, path, found
      if #found == 0 then return found end
    else
      local count = most == math.huge and '-1' or text_of(most - touched + 1)
      found = range(set, '[' .. path .. FIRST[scope], '(' .. path .. '\255', count)
    end
    touch(#found)
    return found
  end

  -- Checking and reading

  function all_records_start(set, first, last, prefix)
    local is_whole = true
    while true do
      local found = call('ZRANGEBYLEX', set, first, last, 'LIMIT', '0', ALL_OF_PIECE)
      for _, member in ipairs(found) do
        local value = live_in(member, end_of(member))
        if value and sub(value, 1, #prefix) ~= prefix then return false end
      end
      if #found == 0 then
        if is_whole and byte(last, -1) == 255 then found_none(set, sub(last, 2, -2)) end
        return true
      end
      is_whole = false
      touch(#found)
      if #found < PIECE then return true end
      first = '(' .. found[PIECE]
    end
  end

  -- Whether the live records of a range are { path, value, ... }.
  function are_exactly_records(set, first, last, items)
    local wanted, missing = {}, #items / 2
    for i = 1, #items, 2 do wanted[items[i]] = items[i + 1] end
    while true do
      local found = range(set, first, last, ALL_OF_PIECE)
      for _, member in ipairs(found) do
        local at = end_of(member)
        local value = live_in(member, at)
        if value then
          if wanted[sub(member, 1, at - 1)] ~= value then return false end
          missing = missing - 1
        end
      end
      touch(#found)
      if #found < PIECE then return missing == 0 end
      first = '(' .. found[PIECE]
    end
  end

  -- The live value of one record.
  function record_at(set, path)
    local member = members(set, path, '=')[1]
    return member and live_in(member, #path + 1) or nil
  end

  function get_record(set, path, with_ttls)
    local member = members(set, path, '=')[1]
    if not member or not live_in(member, #path + 1) then return { '', '!', '' } end
    return { '', '!', with_ttls and format('%d', now()) or '', member }
  end

  -- Returns { cursor, '!', time, member, ... }. The cursor is the path of the last member that was looked at.
  function read_records(set, first, last, limit, with_ttls)
    local answer = { '', '!', with_ttls and format('%d', now()) or '' }
    local count = limit and math.min(limit, most) or most - touched
    local found = range(set, first, last, text_of(count + 1))
    if limit and #found > count then
      found[#found] = nil
      answer[1] = match(found[count], '^%Z*')
    elseif not limit then
      touch(#found)
    end
    for _, member in ipairs(found) do
      if live_in(member, end_of(member)) then answer[#answer + 1] = member end
    end
    return answer
  end

  -- Returns { cursor, { name, ... } } of the live records in a range, after so many bytes of their paths. The cursor is
  -- where the range goes on. A name that was found is passed in one step, however many records are below it.
  function record_names(set, first, last, above, limit)
    local room, found, looked, name, stop = math.max(limit or 0, 1000), {}, 0, nil, nil
    while true do
      local piece = range(set, first, last, ALL_OF_PIECE)
      for _, member in ipairs(piece) do
        stop = find(member, '\1', above + 1, true)
        local here = sub(member, above + 1, stop - 1)
        if here ~= name and live_in(member, end_of(member)) then
          name = here
          found[#found + 1] = name
        end
      end
      looked = looked + #piece
      if #piece < PIECE then return { '', found } end
      local member = piece[PIECE]
      first = sub(member, above + 1, stop - 1) == name and '[' .. sub(member, 1, stop - 1) .. '\2' or '(' .. member
      if not limit then
        touch(PIECE)
      elseif #found >= limit or #found + PIECE > room or looked > most then
        return { first, found }
      end
    end
  end

  -- Changing

  local function covers(write, path)
    if write.scope == '=' then return path == write.path end
    return sub(path, 1, #write.path) == write.path and (write.scope == '*' or #path > #write.path)
  end

  -- The value at the path of the write at this index after the writes before it.
  local function value_before(writes, index)
    local write = writes[index]
    latest, removals = latest or {}, removals or {}
    for i = latest_upto + 1, index - 1 do
      local earlier = writes[i]
      if earlier.kind == 'P' or earlier.kind == 'I' then
        latest[indexed_as(earlier.set, earlier.path)] = i
      elseif earlier.kind == 'D' or earlier.kind == 'W' then
        removals[#removals + 1] = i
      end
    end
    latest_upto = index - 1
    local last = latest[indexed_as(write.set, write.path)] or 0
    for number = #removals, 1, -1 do
      local other = writes[removals[number]]
      if removals[number] < last then break end
      if other.set == write.set and covers(other, write.path) then return nil end
    end
    if last > 0 then return writes[last].sum or writes[last].value end
    local member = write.found[1]
    return member and live_in(member, end_of(member))
  end

  -- Reads everything that a write will touch, so that every error is raised before the first change.
  function prepare_record(writes, index)
    local write = writes[index]
    local kind, found = write.kind, members(write.set, write.path, write.scope)
    write.found = found
    if #found == 0 then touch(1) end
    if kind == 'I' then
      write.sum = sum_of(value_before(writes, index) or '0', write.amount)
      if not write.sum then return false end
    end
    if kind == 'P' and number_of(write.ttl) then
      given = given + 1
    elseif kind == 'E' and write.ttl ~= '' then
      given = given + #found
    end
    if kind == 'W' then
      local may_notify = #found > 0
      for i = 1, index - 1 do may_notify = may_notify or writes[i].set == write.set end
      -- To the channel of no client: a missing permission to publish must be met before the first change.
      if may_notify then call('PUBLISH', write.channels, '') end
    end
    return true
  end

  -- Calls a command with { argument, ... } after a key, a bounded and even number at a time.
  local function in_pieces(command, key, items)
    if #items == 1 then return call(command, key, items[1]) end
    for first = 1, #items, 2000 do call(command, key, unpack(items, first, math.min(first + 1999, #items))) end
  end

  local function put(set, path, value, ttl, found)
    local old, digits = found[1], NEVER
    local old_digits = old and deadline_in(old, #path + 1)
    local lasting = number_of(ttl)
    if lasting then
      digits = format('%016d', now() + lasting)
      call('ZADD', expiries, digits, indexed_as(set, path))
    elseif ttl == 'keep' and old_digits and live_in(old, #path + 1) then
      digits = old_digits
    elseif old_digits then
      call('ZREM', expiries, indexed_as(set, path))
    end
    local member = path .. '\0' .. digits .. value
    if old == member then return end
    if old then call('ZREM', set, old) end
    call('ZADD', set, '0', member)
  end

  local function remove(set, found)
    if #found == 0 then return end
    local gone = {}
    for _, member in ipairs(found) do
      local at = end_of(member)
      if deadline_in(member, at) then gone[#gone + 1] = indexed_as(set, sub(member, 1, at - 1)) end
    end
    in_pieces('ZREM', set, found)
    in_pieces('ZREM', expiries, gone)
  end

  local function set_ttl(set, found, ttl)
    local digits = ttl ~= '' and format('%016d', now() + tonumber(ttl)) or NEVER
    local gone, renewed, scores, persistent = {}, {}, {}, {}
    for _, member in ipairs(found) do
      local at = end_of(member)
      local value, path = live_in(member, at), sub(member, 1, at - 1)
      if value and sub(member, at + 1, at + 16) ~= digits then
        gone[#gone + 1] = member
        renewed[#renewed + 1], renewed[#renewed + 2] = '0', path .. '\0' .. digits .. value
        if digits ~= NEVER then
          scores[#scores + 1], scores[#scores + 2] = digits, indexed_as(set, path)
        else
          persistent[#persistent + 1] = indexed_as(set, path)
        end
      end
    end
    in_pieces('ZREM', set, gone)
    in_pieces('ZADD', set, renewed)
    in_pieces('ZADD', expiries, scores)
    in_pieces('ZREM', expiries, persistent)
  end

  function apply_record(write)
    local kind, set, path = write.kind, write.set, write.path
    changed_sets = changed_sets or {}
    local found = changed_sets[set] and members(set, path, write.scope) or write.found
    changed_sets[set] = true
    if kind == 'P' then
      put(set, path, write.value, write.ttl, found)
    elseif kind == 'I' then
      put(set, path, write.sum, 'keep', found)
    elseif kind == 'E' then
      set_ttl(set, found, write.ttl)
    else
      if kind == 'W' then
        for _, member in ipairs(found) do
          local name = live_in(member, end_of(member))
          if name then publish(write.channels, name) end
        end
      end
      remove(set, found)
    end
  end

  -- Removes the record that stands in the index of TTLs if it has expired. Returns whether it has no TTL there any more.
  function sweep_record(entry)
    local cut = find(entry, '\0', 2, true)
    local set, path = sub(entry, 2, cut - 1), sub(entry, cut + 1)
    local member = call('ZRANGEBYLEX', set, '[' .. path .. '\0', '(' .. path .. '\1', 'LIMIT', '0', '2')[1]
    local digits = member and deadline_in(member, #path + 1)
    if not digits then return true end
    if digits > moment() then return false end
    call('ZREM', set, member)
    return true
  end

  -- Rewrites a record space that an earlier version has stored as hashes, like the values of the tree.
  function migrate(set)
    most = math.huge
    local function segment_of(name)
      return (gsub(name, '[%z\1\2]', function(c) return '\2' .. string.char(byte(c) + 48) end)) .. '\1'
    end
    local stored, scores, hashes, gone = {}, {}, {}, {}
    each_hash(set, function(at, fields)
      hashes[#hashes + 1] = at
      local above = ''
      for segment in string.gmatch(sub(at, #set + 1), '%.([^.]*)') do above = above .. segment_of(unescaped(segment)) end
      for i = 1, #fields, 2 do
        local value, deadline = live(fields[i + 1]), deadline_of(fields[i + 1])
        local path = above .. segment_of(fields[i])
        if deadline then gone[#gone + 1] = at .. '\0' .. fields[i] end
        if value then
          local digits = deadline and format('%016d', deadline) or NEVER
          stored[#stored + 1], stored[#stored + 2] = '0', path .. '\0' .. digits .. value
          if deadline then scores[#scores + 1], scores[#scores + 2] = digits, indexed_as(set, path) end
        end
      end
    end)
    for _, name in ipairs(hashes) do call('UNLINK', name) end
    in_pieces('ZREM', expiries, gone)
    in_pieces('ZADD', set, stored)
    in_pieces('ZADD', expiries, scores)
  end
end
