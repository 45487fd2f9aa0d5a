-- Quarto's callouts: the title of the box becomes its first line
function Div(box)
  local kind = box.classes:find_if(function(name) return name:match('^callout%-') end)
  if kind == nil then return nil end
  local title = box.attributes.title or kind:gsub('^callout%-', '')
  box.attributes.title = nil
  box.attributes.role = 'note'
  box.content:insert(1, pandoc.Div(pandoc.read(title, 'markdown').blocks, {class = 'callout-title'}))
  return box
end
