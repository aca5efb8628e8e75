"""Lists of prompts for any mix of models and providers, sent as one run."""

from pllm_notebook.prompt_lists.build import as_prompt_list, prepare_prompts
from pllm_notebook.prompt_lists.llm_output import GeneratedJsonObject, LLMOutput, LLMToolCall
from pllm_notebook.prompt_lists.prompt_context import LLMPromptContext

__all__ = ["GeneratedJsonObject", "LLMOutput", "LLMPromptContext", "LLMToolCall", "as_prompt_list", "prepare_prompts"]
