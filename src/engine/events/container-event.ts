/** Container events that do not come from a journal: the daemon's own operations. */
import type { Container } from '../../model/container.ts';
import type { NewEvent } from '../../model/event.ts';
import { wallNow } from '../clock.ts';
import { attributesOf } from './from-journal.ts';

export const containerEvent = (c: Container, action: string, attributes: Record<string, string> = {}): NewEvent => ({
  type: 'container',
  action,
  actor: c.id,
  time: wallNow(),
  attributes: attributesOf({ id: c.id, name: c.name, image: c.config.Image, labels: c.config.Labels }, attributes),
});
