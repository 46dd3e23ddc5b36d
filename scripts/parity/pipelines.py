"""The tiny pipelines: SDXL, Stable Diffusion 3, FLUX.1 and SANA in their real structure, from configs, with random weights.

Everything that a program reads from a repository (schedulers, scaling of latents, padding, order of ids) is as
published; widths, depths and vocabularies are as small as they go. They draw nothing that anybody would look at.
"""

import torch
from diffusers import (
    AutoencoderDC, AutoencoderKL, DPMSolverMultistepScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler, FluxPipeline,
    FluxTransformer2DModel, SanaPipeline, SanaTransformer2DModel, SD3Transformer2DModel, StableDiffusion3Pipeline, StableDiffusionXLPipeline,
    UNet2DConditionModel)
from transformers import (
    CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, Gemma2Config, Gemma2Model, T5Config, T5EncoderModel)

import vocabulary

SDXL_SCHEDULER = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
    "interpolation_type": "linear", "prediction_type": "epsilon", "steps_offset": 1, "timestep_spacing": "leading",
    "trained_betas": None, "use_karras_sigmas": False}
SD3_SCHEDULER = {"num_train_timesteps": 1000, "shift": 3.0}
FLUX_DEV_SCHEDULER = {
    "base_image_seq_len": 256, "base_shift": 0.5, "max_image_seq_len": 4096, "max_shift": 1.15, "num_train_timesteps": 1000, "shift": 3.0,
    "use_dynamic_shifting": True}
FLUX_SCHNELL_SCHEDULER = FLUX_DEV_SCHEDULER | {"shift": 1.0, "use_dynamic_shifting": False}
SANA_SCHEDULER = {
    "algorithm_type": "dpmsolver++", "beta_end": 0.02, "beta_schedule": "linear", "beta_start": 0.0001, "dynamic_thresholding_ratio": 0.995,
    "euler_at_final": False, "final_sigmas_type": "zero", "flow_shift": 3.0, "lower_order_final": True, "num_train_timesteps": 1000,
    "prediction_type": "flow_prediction", "rescale_betas_zero_snr": False, "sample_max_value": 1.0, "solver_order": 2,
    "solver_type": "midpoint", "steps_offset": 0, "thresholding": False, "timestep_spacing": "linspace", "trained_betas": None,
    "use_beta_sigmas": False, "use_exponential_sigmas": False, "use_flow_sigmas": True, "use_karras_sigmas": False, "use_lu_lambdas": False,
    "variance_type": None}


def enliven(model, seed):
    """Random weights under which every input matters to the outputs, biases and scales too, and nothing overflows."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    with torch.no_grad():
        for name, values in model.named_parameters():
            noise = torch.randn(values.shape, generator=generator)
            if id(values) in embeddings or "class_embedding" in name:
                values.copy_(noise * 0.5)
            elif values.ndim > 1:
                values.copy_(noise * (values[0].numel() ** -0.5))
            elif name.endswith("weight"):
                values.copy_(1 + 0.1 * noise)
            elif name.endswith("logit_scale"):
                pass
            else:
                values.copy_(0.1 * noise)
    return model.eval()


def text_encoder(kind, seed, vocabulary_size, width, layers, projection, activation):
    return enliven(kind(CLIPTextConfig(
        vocab_size=vocabulary_size, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
        num_attention_heads=width // 8, projection_dim=projection, hidden_act=activation, max_position_embeddings=vocabulary.LENGTH,
        # Not the real ids: published configs say this, and mean that the highest id ends the text.
        bos_token_id=0, eos_token_id=2, pad_token_id=1)), seed)


def autoencoder(seed, channels, **others):
    made = enliven(AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=channels, block_out_channels=(4, 8, 8, 8), layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=4,
        sample_size=64, force_upcast=True, **others), seed)
    with torch.no_grad():
        made.decoder.conv_out.weight *= 0.6  # few values beyond what a picture can hold
    return made


def t5_encoder(seed, vocabulary_size, width):
    made = enliven(T5EncoderModel(T5Config(
        vocab_size=vocabulary_size, d_model=width, d_kv=8, d_ff=48, num_layers=2, num_heads=3, feed_forward_proj="gated-gelu",
        dense_act_fn="gelu_new", is_gated_act=True, tie_word_embeddings=False, pad_token_id=0, eos_token_id=1)), seed)
    with torch.no_grad():
        for block in made.encoder.block:
            block.layer[0].SelfAttention.q.weight *= 8**-0.5  # T5 has its attention's scale in its weights
    return made


def sdxl(scratch):
    first = vocabulary.clip(scratch, vocabulary.END, fast=False)
    second = vocabulary.clip(scratch, "!", fast=False)
    pooled, per_number = 20, 8
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 8, 16), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=[1, 1, 2],
        attention_head_dim=[1, 1, 2], use_linear_projection=True, cross_attention_dim=16 + 24, norm_num_groups=4,
        addition_embed_type="text_time", addition_time_embed_dim=per_number,
        projection_class_embeddings_input_dim=pooled + 6 * per_number)
    return StableDiffusionXLPipeline(
        vae=autoencoder(1, 4, scaling_factor=0.13025),
        text_encoder=text_encoder(CLIPTextModel, 2, len(first), 16, 2, 16, "quick_gelu"),
        text_encoder_2=text_encoder(CLIPTextModelWithProjection, 3, len(second), 24, 3, pooled, "gelu"),
        tokenizer=first, tokenizer_2=second, unet=enliven(unet, 4),
        scheduler=EulerDiscreteScheduler(**SDXL_SCHEDULER), force_zeros_for_empty_prompt=True, add_watermarker=False)


def sd3(scratch):
    first = vocabulary.clip(scratch, vocabulary.END, fast=True)
    second = vocabulary.clip(scratch, "!", fast=True)
    third = vocabulary.t5()
    width, joint = 40, 12 + 20
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=16, out_channels=16, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=width, caption_projection_dim=16, pooled_projection_dim=joint, pos_embed_max_size=12,
        qk_norm="rms_norm", dual_attention_layers=(0,))
    return StableDiffusion3Pipeline(
        vae=autoencoder(11, 16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=text_encoder(CLIPTextModelWithProjection, 12, len(first), 16, 2, 12, "quick_gelu"),
        text_encoder_2=text_encoder(CLIPTextModelWithProjection, 14, len(second), 24, 3, 20, "gelu"),
        text_encoder_3=t5_encoder(13, len(third), width), tokenizer=first, tokenizer_2=second, tokenizer_3=third,
        transformer=enliven(transformer, 15), scheduler=FlowMatchEulerDiscreteScheduler(**SD3_SCHEDULER))


def without_t5(pipeline):
    """The same pipeline as it runs where the third encoder was left away."""
    return StableDiffusion3Pipeline(**pipeline.components | {"text_encoder_3": None, "tokenizer_3": None})


def flux(scratch, guided, scheduler, seed):
    """Both FLUX.1 models differ in their transformer and scheduler; text encoders, tokenizers and autoencoder are the same files."""
    first = vocabulary.clip(scratch, vocabulary.END, fast=True)
    second = vocabulary.t5()
    pooled, width = 16, 32
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=1, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=width, pooled_projection_dim=pooled, guidance_embeds=guided, axes_dims_rope=(4, 6, 6))
    return FluxPipeline(
        vae=autoencoder(31, 16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=text_encoder(CLIPTextModel, 32, len(first), pooled, 2, 16, "quick_gelu"),
        text_encoder_2=t5_encoder(33, len(second), width), tokenizer=first, tokenizer_2=second,
        transformer=enliven(transformer, seed), scheduler=FlowMatchEulerDiscreteScheduler(**scheduler))


def flux_dev(scratch):
    return flux(scratch, True, FLUX_DEV_SCHEDULER, 34)


def flux_schnell(scratch):
    return flux(scratch, False, FLUX_SCHNELL_SCHEDULER, 35)


def deep_autoencoder(seed, channels):
    """SANA's: six stages, the last three of them with linear attention, a picture 32 times as wide as its latents."""
    kinds, widths = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3, (4, 8, 8, 8, 16, 16)
    scales = ((), (), (), (5,), (5,), (5,))
    made = enliven(AutoencoderDC(
        in_channels=3, latent_channels=channels, attention_head_dim=8, encoder_block_types=kinds, decoder_block_types=kinds,
        encoder_block_out_channels=widths, decoder_block_out_channels=widths, encoder_layers_per_block=(1,) * 6,
        decoder_layers_per_block=(1,) * 6, encoder_qkv_multiscales=scales, decoder_qkv_multiscales=scales, downsample_block_type="Conv",
        upsample_block_type="interpolate", decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.41407), seed)
    with torch.no_grad():
        made.decoder.conv_out.weight *= 0.6  # few values beyond what a picture can hold
    return made


def sana(scratch):
    tokenizer = vocabulary.gemma()
    width, channels = 16, 8
    encoder = Gemma2Model(Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, query_pre_attn_scalar=16, hidden_activation="gelu_pytorch_tanh", max_position_embeddings=8192, sliding_window=4096,
        attn_logit_softcapping=50.0, final_logit_softcapping=30.0, pad_token_id=0, eos_token_id=1, bos_token_id=2))
    transformer = SanaTransformer2DModel(
        in_channels=channels, out_channels=channels, num_attention_heads=4, attention_head_dim=8, num_layers=2, num_cross_attention_heads=2,
        cross_attention_head_dim=16, cross_attention_dim=32, caption_channels=width, mlp_ratio=2.5, attention_bias=False, sample_size=32,
        patch_size=1, norm_elementwise_affine=False, norm_eps=1e-6)
    return SanaPipeline(
        tokenizer=tokenizer, text_encoder=enliven(encoder, 41), vae=deep_autoencoder(42, channels), transformer=enliven(transformer, 43),
        scheduler=DPMSolverMultistepScheduler(**SANA_SCHEDULER))


def clip(scratch):
    """The dual encoder and its tokenizer."""
    tokenizer = vocabulary.clip(scratch, vocabulary.END, fast=True)
    common = {"num_hidden_layers": 2, "hidden_act": "quick_gelu", "projection_dim": 16}
    model = CLIPModel(CLIPConfig(projection_dim=16, text_config={
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2,
        "max_position_embeddings": vocabulary.LENGTH, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id, **common,
    }, vision_config={
        "image_size": 32, "patch_size": 8, "hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 3, **common}))
    return enliven(model, 21), tokenizer
