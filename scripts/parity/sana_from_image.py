"""SANA from a picture, which diffusers has no pipeline for: `SanaPipeline.__call__`, begun like its other image-to-image pipelines.

The schedule of all steps stays, its first ones are left out, and noise is mixed in as flow matching does. The solver
starts anew: its first step has no step before it, and is of first order.
"""

import torch
from diffusers import SanaPipeline
from diffusers.image_processor import PixArtImageProcessor
from diffusers.pipelines.sana.pipeline_output import SanaPipelineOutput
from diffusers.utils.torch_utils import randn_tensor

import vocabulary


class SanaFromImage(SanaPipeline):
    """`strength` of 1 leaves out no step, as for `FluxImg2ImgPipeline`."""

    @torch.no_grad()
    def __call__(
            self, prompt, image, strength, height, width, num_inference_steps, guidance_scale, output_type, callback_on_step_end,
            use_resolution_binning):
        assert not use_resolution_binning
        guided = guidance_scale > 1
        embeds, mask, empty_embeds, empty_mask = self.encode_prompt(
            prompt, guided, negative_prompt="", max_sequence_length=300, complex_human_instruction=vocabulary.instruction())
        if guided:
            embeds, mask = torch.cat([empty_embeds, embeds]), torch.cat([empty_mask, mask])

        self.scheduler.set_timesteps(num_inference_steps)
        begin = int(max(num_inference_steps - num_inference_steps * strength, 0))
        self.scheduler.set_begin_index(begin)
        sigma = self.scheduler.sigmas[begin]

        pixels = PixArtImageProcessor(vae_scale_factor=self.vae_scale_factor).preprocess(image, height=height, width=width)
        clean = self.vae.encode(pixels).latent * self.vae.config.scaling_factor
        latents = (1 - sigma) * clean + sigma * randn_tensor(clean.shape)

        for at, timestep in enumerate(self.scheduler.timesteps[begin:]):
            inputs = torch.cat([latents] * 2) if guided else latents
            predicted = self.transformer(
                inputs, encoder_hidden_states=embeds, encoder_attention_mask=mask,
                timestep=timestep.expand(len(inputs)) * self.transformer.config.timestep_scale, return_dict=False)[0]
            if guided:
                without, with_text = predicted.chunk(2)
                predicted = without + guidance_scale * (with_text - without)
            latents = self.scheduler.step(predicted, timestep, latents, return_dict=False)[0]
            callback_on_step_end(self, at, timestep, {"latents": latents})

        decoded = self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0]
        return SanaPipelineOutput(images=self.image_processor.postprocess(decoded, output_type=output_type))
