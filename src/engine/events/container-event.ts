/** Container events that the daemon itself records; those that a shim journals come from from-journal.ts. */
import type { Container } from '../../model/container.ts';
import type { NewEvent } from '../../model/event.ts';
import { wallNow } from '../clock.ts';
import { attributesOf } from './from-journal.ts';

/** An event about `container` that happens now. `own` are its attributes besides those of every container event. */
export function containerEvent(container: Container, action: string, own: Record<string, string> = {}): NewEvent {
  const { id, name, config } = container;
  return {
    type: 'container',
    action,
    actor: id,
    time: wallNow(),
    attributes: attributesOf({ id, name, image: config.Image, labels: config.Labels }, own),
  };
}
