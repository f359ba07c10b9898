"""Tiny random models in the very classes of the large backbones: scheduler, tokenizer, text
encoder, VAE and denoiser.

Each function writes a pipeline with `save_pretrained` and returns its folder. 64-pixel images,
weights from a fixed seed, tokenizers trained here on a few words.
"""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralImageProcessor,
    PixtralProcessor,
    PixtralVisionConfig,
    PreTrainedTokenizerFast,
    Qwen2TokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

SIZE = 64
WORDS = [
    "a photo of a defective solar cell",
    "a photo of a magnetic tile with a crack",
    "a photo of a chest X-ray with Effusion",
] * 4

QWEN_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
MISTRAL_CHAT = (
    "<s>{% for m in messages %}[INST]{% for part in m.content %}{{ part.text }}{% endfor %}"
    "[/INST]{% endfor %}"
)
MISTRAL_TOKENS = [
    "<unk>",
    "<s>",
    "</s>",
    "<pad>",
    "[INST]",
    "[/INST]",
    "[IMG]",
    "[IMG_BREAK]",
    "[IMG_END]",
]


def sd15(
    folder: Path, widths: tuple[int, int] = (16, 32), vae: tuple[int, ...] = (8, 8, 16, 16)
) -> Path:
    """A StableDiffusionPipeline without safety checker, as Stable Diffusion 1.5 is used here;
    channels of its denoiser and autoencoder.
    """
    torch.manual_seed(0)
    vocab, merges = _clip_words()
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocab),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=vocab["<|startoftext|>"],
            eos_token_id=vocab["<|endoftext|>"],
            pad_token_id=vocab["<|endoftext|>"],
        )
    )
    unet = UNet2DConditionModel(
        sample_size=SIZE // 8,
        block_out_channels=widths,
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=32,
        attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    autoencoder = AutoencoderKL(**_vae(latent_channels=4) | {"block_out_channels": vae})
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
    )
    pipe = StableDiffusionPipeline(
        autoencoder,
        text,
        CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77),
        unet,
        scheduler,
        None,
        None,
        requires_safety_checker=False,
    )
    return _saved(pipe, folder)


def flux2_klein_4b(folder: Path) -> Path:
    """A Flux2KleinPipeline: Qwen3 text encoder, real classifier-free guidance."""
    torch.manual_seed(0)
    tokenizer = Qwen2TokenizerFast(
        **_words(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]),
        chat_template=QWEN_CHAT,
    )
    text = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=28,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
        )
    )
    pipe = Flux2KleinPipeline(
        _flow(),
        _flux_vae(),
        text,
        tokenizer,
        _flux_transformer(guidance_embeds=False),
        is_distilled=False,
    )
    return _saved(pipe, folder)


def flux2_dev(folder: Path) -> Path:
    """A Flux2Pipeline: Mistral3 text encoder, guidance as an input of the transformer."""
    torch.manual_seed(0)
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(WORDS, vocab_size=300, special_tokens=MISTRAL_TOKENS)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens=MISTRAL_TOKENS[4:],
    )
    processor = PixtralProcessor(PixtralImageProcessor(), tokenizer, chat_template=MISTRAL_CHAT)
    text = Mistral3ForConditionalGeneration(
        Mistral3Config(
            text_config=MistralConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=31,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=8,
                tie_word_embeddings=True,
            ),
            vision_config=PixtralVisionConfig(
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                image_size=32,
                head_dim=8,
            ),
            image_token_index=MISTRAL_TOKENS.index("[IMG]"),
            spatial_merge_size=1,
        )
    )
    pipe = Flux2Pipeline(
        _flow(), _flux_vae(), text, processor, _flux_transformer(guidance_embeds=True)
    )
    return _saved(pipe, folder)


def _saved(pipe, folder: Path) -> Path:
    pipe.save_pretrained(folder, safe_serialization=True)
    return Path(folder)


def _words(special: list[str]) -> dict:
    """Vocabulary and merges of a byte-level BPE over WORDS."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(WORDS, vocab_size=300, special_tokens=special)
    vocab = trained.get_vocab()
    return {
        "vocab": vocab,
        "merges": [tuple(m) for m in json.loads(trained._tokenizer.to_str())["model"]["merges"]],
    }


def _clip_words() -> tuple[dict, list]:
    """Every letter twice, the second time as the end of a word, as in CLIP's vocabulary; no
    merges."""
    letters = [chr(i) for i in range(33, 127)]
    tokens = [*letters, *(f"{x}</w>" for x in letters), "<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}, []


def _vae(latent_channels: int) -> dict:
    return dict(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=latent_channels,
        sample_size=SIZE,
    )


def _flux_vae() -> AutoencoderKLFlux2:
    vae = AutoencoderKLFlux2(**_vae(latent_channels=8))
    vae.bn.running_mean.copy_(
        0.1 * torch.randn(32)
    )  # statistics that are not those of the identity
    vae.bn.running_var.copy_(0.5 + torch.rand(32))
    return vae


def _flux_transformer(guidance_embeds: bool) -> Flux2Transformer2DModel:
    return Flux2Transformer2DModel(
        in_channels=32,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance_embeds,
    )


def _flow() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, shift=3.0, time_shift_type="exponential"
    )
