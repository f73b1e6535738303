// The chat templates of the DeepSeek-V2 family, letter for letter as the checkpoints publish them, quirks
// included, but for V2.5's blanks before BOS (docs/decisions/0006). For a checkpoint that carries no template of
// its own. Knows no messages and no Jinja.

export const builtInTemplates: {
  readonly 'deepseek-v2-chat': string
  readonly 'deepseek-v2-chat-0628': string
  readonly 'deepseek-v2.5': string
} = {
  // V2-Chat, V2-Lite-Chat and Coder-V2-Instruct, May and June 2024.
  'deepseek-v2-chat': [
    `{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}`,
    `{% endif %}{{ '<｜begin▁of▁sentence｜>' }}{% for message in messages %}`,
    `{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\n\n' }}`,
    `{% elif message['role'] == 'assistant' %}`,
    `{{ 'Assistant: ' + message['content'] + '<｜end▁of▁sentence｜>' }}`,
    `{% elif message['role'] == 'system' %}{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}`,
    `{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}`,
  ].join(''),
  // V2-Chat-0628.
  'deepseek-v2-chat-0628': [
    `{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}`,
    `{% endif %}{{ '<｜begin▁of▁sentence｜>' }}{% for message in messages %}`,
    `{% if message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}`,
    `{% elif message['role'] == 'assistant' %}`,
    `{{ '<｜Assistant｜>' + message['content'] + '<｜end▁of▁sentence｜>' }}`,
    `{% elif message['role'] == 'system' %}{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}`,
    `{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}`,
  ].join(''),
  // V2.5: the last system message wins, and one tool call alone is never closed. As published, the branch of the
  // system message holds eight blanks more, which come out before BOS.
  'deepseek-v2.5': [
    `{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}`,
    `{% endif %}`,
    `{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='') %}`,
    `{%- for message in messages %}    {%- if message['role'] == 'system' %}`,
    `        {%- set ns.system_prompt = message['content'] %}    {%- endif %}{%- endfor %}`,
    `{{'<｜begin▁of▁sentence｜>'}}{{ns.system_prompt}}{%- for message in messages %}`,
    `    {%- if message['role'] == 'user' %}    {%- set ns.is_tool = false -%}`,
    `{{'<｜User｜>' + message['content']}}    {%- endif %}`,
    `    {%- if message['role'] == 'assistant' and message['content'] is none %}`,
    `        {%- set ns.is_tool = false -%}        {%- for tool in message['tool_calls']%}`,
    `            {%- if not ns.is_first %}`,
    `{{'<｜Assistant｜><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + tool['type']`,
    ` + '<｜tool▁sep｜>' + tool['function']['name'] + '\\n' + '\`\`\`json' + '\\n'`,
    ` + tool['function']['arguments'] + '\\n' + '\`\`\`' + '<｜tool▁call▁end｜>'}}`,
    `            {%- set ns.is_first = true -%}            {%- else %}`,
    `{{'\\n' + '<｜tool▁call▁begin｜>' + tool['type']`,
    ` + '<｜tool▁sep｜>' + tool['function']['name'] + '\\n' + '\`\`\`json' + '\\n'`,
    ` + tool['function']['arguments'] + '\\n' + '\`\`\`' + '<｜tool▁call▁end｜>'}}`,
    `{{'<｜tool▁calls▁end｜><｜end▁of▁sentence｜>'}}                   {%- endif %}`,
    `        {%- endfor %}    {%- endif %}`,
    `    {%- if message['role'] == 'assistant' and message['content'] is not none %}`,
    `        {%- if ns.is_tool %}`,
    `{{'<｜tool▁outputs▁end｜>' + message['content'] + '<｜end▁of▁sentence｜>'}}`,
    `        {%- set ns.is_tool = false -%}        {%- else %}`,
    `{{'<｜Assistant｜>' + message['content'] + '<｜end▁of▁sentence｜>'}}        {%- endif %}`,
    `    {%- endif %}    {%- if message['role'] == 'tool' %}        {%- set ns.is_tool = true -%}`,
    `        {%- if ns.is_output_first %}`,
    `{{'<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>'}}`,
    `        {%- set ns.is_output_first = false %}        {%- else %}`,
    `{{'\\n<｜tool▁output▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>'}}`,
    `        {%- endif %}    {%- endif %}{%- endfor -%}{% if ns.is_tool %}`,
    `{{'<｜tool▁outputs▁end｜>'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}`,
    `{{'<｜Assistant｜>'}}{% endif %}`,
  ].join(''),
}
