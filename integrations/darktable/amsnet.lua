--[[
Denoise the selected images of darktable's lighttable with amsnet.

RAW files become DNG files, denoised before they are developed. Anything else, or a RAW file as it
is developed now, is exported as 16-bit TIFF and denoised then. The results are imported and grouped
with their originals; no file is overwritten.

Install: copy this file into the folder lua of darktable's configuration, and write into the file
luarc there: require "amsnet"

It needs darktable 4.2 or newer, and the program amsnet.
]]

local dt = require "darktable"

local NAME = "amsnet"
local SETTINGS = {
  { name = "program", label = "program", default = "amsnet",
    tooltip = "the program, with its folder if it is not found without" },
  { name = "options", label = "options", default = "",
    tooltip = "further options of amsnet denoise, such as --luma 0.6 or -w my_camera" },
}

local on_windows = dt.configuration.running_os == "windows"
local separator = on_windows and "\\" or "/"
local amsnet, entries, installed = {}, {}, false

local function setting(name)
  local value = dt.preferences.read(NAME, name, "string")
  if name == "program" and value == "" then return "amsnet" end
  return value
end

-- Return a text as one word of a command line.
local function quoted(text)
  if on_windows then return '"' .. text:gsub('"', "") .. '"' end
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function exists(path)
  local file = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

-- Return STEM_clean.SUFFIX in a folder, with a number behind if there is such a file.
local function free_name(folder, stem, suffix)
  local path, number = folder .. separator .. stem .. "_clean" .. suffix, 1
  while exists(path) do
    path = string.format("%s%s%s_clean_%02d%s", folder, separator, stem, number, suffix)
    number = number + 1
  end
  return path
end

-- Run amsnet; return nothing if it worked, else its message.
local function run(source, target)
  local log = os.tmpname()
  local command = string.format("%s denoise %s -o %s %s 2> %s", quoted(setting("program")),
    quoted(source), quoted(target), setting("options"), quoted(log))
  if on_windows then command = '"' .. command .. '"' end
  local code = dt.control.execute(command)
  local file = io.open(log, "r")
  local said = file and file:read("a") or ""
  if file then file:close() end
  os.remove(log)
  if code == 0 and exists(target) then return nil end
  return said:match("error: ([^\n]*)") or said:match("([^\n]+)%s*$")
    or "it ended with " .. tostring(code) .. "; is the program in the settings the right one?"
end

-- Export an image as 16-bit TIFF; return its path, or nothing and a message.
local function exported(image)
  local path = os.tmpname()
  os.remove(path)
  path = path .. ".tif"
  local format = dt.new_format("tiff")
  format.bpp = 16
  format:write_image(image, path, false)
  if exists(path) then return path end
  return nil, "darktable could not export it"
end

-- Denoise one image; return the imported result, or nothing and a message.
local function denoise_one(image, kind)
  local stem = image.filename:match("^(.+)%.[^.]*$") or image.filename
  local source, temporary = image.path .. separator .. image.filename, nil
  if kind == "tiff" then
    local problem
    temporary, problem = exported(image)
    if not temporary then return nil, problem end
    source = temporary
  end
  local target = free_name(image.path, stem, kind == "dng" and ".dng" or ".tif")
  local problem = run(source, target)
  if temporary then os.remove(temporary) end
  if problem then return nil, problem end
  local result = dt.database.import(target)
  if not result then return nil, target .. " is written, but could not be imported" end
  result:group_with(image)
  result.rating = image.rating
  return result
end

--- Denoise images.
-- images: a list of them.
-- kind: "dng" for RAW files before development, "tiff" for what darktable exports.
-- Returns the imported results, and messages of what failed.
function amsnet.denoise(images, kind)
  local results, failures, cancelled = {}, {}, false
  local job = dt.gui.create_job("amsnet", true, function() cancelled = true end)
  for number, image in ipairs(images) do
    if cancelled then break end
    dt.print(string.format("amsnet: %s (%d of %d)", image.filename, number, #images))
    local ok, result, problem = pcall(denoise_one, image, kind)
    if ok and result then
      table.insert(results, result)
    else
      problem = image.filename .. ": " .. tostring(ok and problem or result)
      table.insert(failures, problem)
      dt.print("amsnet: " .. problem)
      dt.print_error("amsnet: " .. problem)
    end
    job.percent = number / #images
  end
  job.valid = false
  if #failures == 0 then
    dt.print(string.format("amsnet: %d denoised", #results))
  elseif #images > 1 then
    dt.print(string.format("amsnet: %d denoised, %d failed; the last: %s", #results, #failures,
      failures[#failures]))
  end
  return results, failures
end

local function button(label, tooltip, kind)
  return dt.new_widget("button") {
    label = label, tooltip = tooltip,
    clicked_callback = function()
      local images = {}
      for _, image in ipairs(dt.gui.action_images) do table.insert(images, image) end
      if #images == 0 then
        dt.print("amsnet: select images first")
        return
      end
      dt.control.dispatch(amsnet.denoise, images, kind)
    end,
  }
end

-- Show the panel; darktable can only do so in the lighttable.
local function install()
  if installed then return end
  installed = true
  local rows = { orientation = "vertical" }
  for _, one in ipairs(SETTINGS) do
    table.insert(rows, dt.new_widget("label") { label = one.label, halign = "start" })
    local entry = dt.new_widget("entry") { text = setting(one.name), tooltip = one.tooltip }
    entries[one.name] = entry
    table.insert(rows, entry)
  end
  table.insert(rows, dt.new_widget("button") {
    label = "keep settings",
    clicked_callback = function()
      for name, entry in pairs(entries) do
        dt.preferences.write(NAME, name, "string", entry.text)
      end
      dt.print("amsnet: settings kept")
    end,
  })
  table.insert(rows, button("denoise RAW to DNG",
    "before development; for RAW files", "dng"))
  table.insert(rows, button("denoise export to TIFF",
    "as it is developed now, with 16 bits; switch darktable's own denoising off", "tiff"))
  dt.register_lib(NAME, "amsnet", true, false,
    { [dt.gui.views.lighttable] = { "DT_UI_CONTAINER_PANEL_RIGHT_CENTER", 100 } },
    dt.new_widget("box")(rows))
end

for _, one in ipairs(SETTINGS) do
  dt.preferences.register(NAME, one.name, "string", "amsnet: " .. one.label, one.tooltip,
    one.default)
end
if dt.gui.current_view().id == "lighttable" then
  install()
else
  dt.register_event(NAME, "view-changed", function(_, _, view)
    if view.id == "lighttable" then install() end
  end)
end

return amsnet
