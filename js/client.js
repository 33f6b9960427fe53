// Asks our routes on ComfyUI's server.

/** An error as the server words it for a person. */
export class ServerError extends Error {}

/** @param {{fetchApi(route: string): Promise<Response>}} api */
export function createClient(api) {
  async function getJson(route) {
    const answer = await api.fetchApi(route);
    const content = await answer.json().catch(() => ({}));
    if (!answer.ok) {
      const said = [content.error, content.hint].filter(Boolean).join(" ");
      throw new ServerError(said || `The server answered with the error ${answer.status}.`);
    }
    return content;
  }

  return {
    loraMetadata: (name) => getJson(`/luna/get_lora_metadata?lora_name=${encodeURIComponent(name)}`),
  };
}
