# Completion of gptcli for fish.
#
# gptcli answers with lines: what to list if there is no candidate and how the word begins before its
# value, then the candidates and what they mean. They are read as lines, never evaluated.

function __gptcli_complete
    set -l words (commandline -opc)
    set -l typed (commandline -ct)
    set -l word (string unescape -- $typed); or set word $typed
    set -l program (string replace -r '^~/' $HOME/ -- $words[1])
    command -q -- $program; or set program gptcli
    set -e words[1]
    set -l lines (_GPTCLI_COMPLETE=fish $program $words "$word" 2>/dev/null </dev/null)
    if set -q lines[2]
        printf '%s\n' $lines[2..-1]
        return
    end
    set -l head (string split -m 1 ' ' -- $lines[1])
    set -l rest (string sub -s (math 1 + (string length -- "$head[2]")) -- "$word")
    set -l names
    switch "$head[1]"
        case nothing
        case folders
            set names (__fish_complete_directories "$rest" '')
        case '*'
            set names (__fish_complete_path "$rest")
    end
    for name in $names
        printf '%s\n' "$head[2]$name"
    end
end

complete -c gptcli -f -a '(__gptcli_complete)'
