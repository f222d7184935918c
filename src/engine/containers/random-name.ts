/** Random names for containers created without one: `steady_tasman`. */
import { randomInt } from 'node:crypto';

/** Attempts without digits. */
const PLAIN_TRIES = 5;
/** Attempts before another digit is added, so that the search ends however many names are taken. */
const TRIES_PER_DIGIT = 10;

/** A free name. Synchronous, so that the caller can reserve the result before any other request runs. */
export function randomName(taken: (name: string) => boolean, pick: (below: number) => number = randomInt): string {
  for (let i = 0; ; i++) {
    const digits = i < PLAIN_TRIES ? 0 : 1 + Math.floor((i - PLAIN_TRIES) / TRIES_PER_DIGIT);
    const suffix = Array.from({ length: digits }, () => pick(10)).join('');
    const name = `${ADJECTIVES[pick(ADJECTIVES.length)]}_${SURNAMES[pick(SURNAMES.length)]}${suffix}`;
    if (!taken(name)) return name;
  }
}

const namesIn = (list: string): string[] => list.trim().split(/\s+/);

const ADJECTIVES = namesIn(`
  able agile airy alert amber ample ardent artful awake azure balmy beaming bold bonny brave breezy bright brisk buoyant calm candid canny cheery civil
  clear clever coastal cosy crisp curious dapper daring dashing dauntless deft devoted diligent eager earnest easy elated even fair faithful fearless
  fleet fluent fond frank fresh genial gentle gilded glad gleaming golden graceful grand hale handy hardy hearty helpful honest humble jaunty jolly
  jovial keen kindly lively loyal lucid lucky mellow merry mighty mild mindful modest neat nimble noble patient peaceful placid plucky polite proud
  prudent quick quiet radiant ready robust rosy ruddy serene sharp silver sincere sleek snug sober solid spry stable staunch steady sturdy subtle sunny
  supple sure swift tender thrifty tidy tranquil trim true trusty upbeat valiant vivid warm watchful willing wise witty worthy zesty
`);

/** Explorers, scientists, writers and composers. */
const SURNAMES = namesIn(`
  abel adams agnesi airy alcott alder alhazen amundsen anning archimedes aristarchus aryabhata audubon austen avogadro ayrton babbage bach baffin balboa
  banks barents bartok basho becquerel behring bellingham bernoulli berzelius bessel blackwell blake boole bose bougainville bowditch boyle brahe bronte
  brown brunel burbank burney byron cabot cannon cantor carnot carson cartier cauchy cavendish cervantes chandra chaucer chopin cook copernicus coulomb
  cousteau curie cuvier dalton dampier dante darwin davis davy debussy defoe descartes dias dickens dickinson dirac doppler drake dumas dvorak earhart
  eddington edison einstein eliot emerson eratosthenes ericson euclid euler faraday fermat fermi feynman fibonacci finsen fitzroy flinders foucault
  fourier franklin fraunhofer fresnel frobisher fulton galen galileo galvani gama gauss germain gibbs goddard goethe grieg hadley halley hamilton handel
  harrison harvey haydn heisenberg helmholtz henson herschel hertz hevelius heyerdahl hilbert hillary hipparchus homer hooke hopper hubble hudson
  humboldt hutton huxley huygens hypatia ibsen jansky jenner joule kant keats keller kelvin kepler khayyam kierkegaard kingsley kovalevskaya lagrange
  lamarck lander laplace lavoisier leavitt leeuwenhoek leibniz linnaeus lister liszt livingstone lomonosov lovelace lowell lyell mackenzie magellan
  mahler malpighi marconi markham markov maury maxwell mead melville mendel mendeleev mercator messier michelson milton mitchell moliere morse mozart
  nansen napier nares newcomb newton nightingale nobel noether norgay ohm orsted oughtred ovid palmer park parry parsons pascal pasteur pauling peary
  perrault petrarch piazzi planck plato pliny poincare polo priestley ptolemy purcell pushkin pythagoras quimby raleigh raman ramanujan ray rayleigh
  riemann roemer rontgen rosse rossetti rossini rutherford sappho schubert schumann scoresby scott seneca shackleton shelley sibelius siemens slocum
  smetana somerville spinoza steller stevenson stokes strabo swift tagore tasman telemann tennyson tesla thales thoreau torricelli tycho tyndall urey
  vancouver verdi verne vespucci virgil vivaldi volta wallace watt weber wegener whitman wilde wren wright yeats young zeno zhang
`);
